package tickr

// One server: how it is asked, how it has been doing, and what is believed of its responses.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	pauseMin = time.Second
	pauseMax = 30 * time.Second
	runsMax  = 1000
	pathMax  = 107
	bodyMax  = 64 << 10
)

// It does not show the URL, which may hold a password.
var errURL = errors.New("tickr: a server is unix:PATH or http://HOST:PORT, " +
	"without a user name or password, which others could see")

// What could steer a terminal.
var unprintable = regexp.MustCompile(`[^\pL\pM\pN\pP\pS ]`)

type server struct {
	name        string
	request     *http.Request // As it is for any number of tickets.
	transport   *http.Transport
	pausedUntil time.Time // It is the last choice until then.
	pause       time.Duration
	latest      []admitted
}

type admitted struct {
	Range
	at time.Time
}

func newServer(url, password string) (*server, error) {
	transport := &http.Transport{
		DisableCompression:     true,
		IdleConnTimeout:        time.Minute,
		MaxIdleConnsPerHost:    8,
		MaxResponseHeaderBytes: 8 << 10,
	}
	base := strings.TrimSuffix(url, "/")
	path := strings.TrimPrefix(url, "unix:")
	isSocket := path != url
	if isSocket {
		base = "http://localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	request, err := http.NewRequest(http.MethodGet, base+"/tickets/create/?format=range", nil)
	isPath := path != "" && len(path) <= pathMax && !strings.Contains(path, "\x00")
	if err != nil || isSocket && !isPath {
		return nil, errURL
	}
	host, port := request.URL.Hostname(), request.URL.Port()
	if port == "" {
		port, base = "80", base+":80"
	}
	number, err := strconv.ParseUint(port, 10, 16)
	// A URL with anything else differs from what it is when put together of these.
	if base != "http://"+net.JoinHostPort(host, port) || host == "" || err != nil || number == 0 ||
		strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return nil, errURL
	}
	if !isSocket {
		url = base
	}
	request.Header = http.Header{"Accept": {"application/json"}, "User-Agent": {"tickr-go/" + Version}}
	if password != "" {
		request.SetBasicAuth("tickr", password)
	}
	return &server{name: url, request: request, transport: transport, pause: pauseMin}, nil
}

// It is the last choice for a second, and for twice as long each time it fails again.
func (c *Client) blame(s *server) {
	s.transport.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.After(s.pausedUntil) {
		s.pausedUntil = now.Add(s.pause)
		s.pause = least(2*s.pause, pauseMax)
	}
}

// Asks within the time-out. A kept connection may be stale, or lead to a process that is about to
// end while its successor has moved on: what fails there is asked for again on a new one.
func (c *Client) ask(caller context.Context, s *server, count uint64) (Range, error) {
	ctx, cancel := context.WithTimeout(caller, c.timeout)
	defer cancel()
	for {
		run, isStale, err := c.get(ctx, s, count)
		if err == nil || !isStale || ctx.Err() != nil {
			return run, err
		}
		s.transport.CloseIdleConnections()
	}
}

// Nothing is believed that could not be so.
func (c *Client) get(ctx context.Context, s *server, count uint64) (
	run Range, isStale bool, err error,
) {
	asked := time.Now()
	request := s.request.Clone(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(connection httptrace.GotConnInfo) { isStale = connection.Reused },
	}))
	request.URL.Path += strconv.FormatUint(count, 10)
	// Not by an http.Client, which would follow redirects.
	response, err := s.transport.RoundTrip(request)
	if err != nil {
		return run, isStale, explain(ctx, err)
	}
	defer response.Body.Close()
	var body []byte
	if response.StatusCode != http.StatusSwitchingProtocols { // What follows has no end.
		body, err = io.ReadAll(io.LimitReader(response.Body, bodyMax+1))
	}
	var answer struct {
		First            *uint64
		Increment, Count uint64
		Detail           string
	}
	wrong := json.Unmarshal(body, &answer)
	detail := printable(answer.Detail)
	switch {
	case response.StatusCode == http.StatusBadRequest:
		return run, false, &RefusedError{s.name, detail}
	case response.StatusCode != http.StatusOK:
		text := fmt.Sprintf("responded %d: %s", response.StatusCode, detail)
		return run, false, errors.New(strings.TrimSuffix(text, ": "))
	case err != nil:
		return run, isStale, explain(ctx, err)
	case response.ProtoMajor != 1, response.ContentLength < 0 && response.TransferEncoding == nil:
		return run, false, errors.New("did not respond like HTTP/1.1 with a length")
	case len(body) > bodyMax:
		return run, false, errors.New("the response is too long")
	case !json.Valid(body):
		return run, false, errors.New("the body is not JSON")
	case wrong != nil || answer.First == nil || answer.Increment == 0 || answer.Count != count ||
		count-1 > (math.MaxUint64-*answer.First)/answer.Increment:
		return run, false, errors.New("the body is not the range asked for")
	}
	run = Range{*answer.First, answer.Increment, count}
	return run, isStale, c.admit(s, run, asked)
}

func explain(ctx context.Context, err error) error {
	var operation *net.OpError
	switch {
	case ctx.Err() != nil:
		return errors.New("did not answer in time")
	case errors.As(err, &operation) && operation.Op == "dial":
		return fmt.Errorf("can't be reached (%w)", err)
	}
	return errors.New("did not respond like a Tickr server: " + printable(err.Error()))
}

func printable(text string) string {
	return fmt.Sprintf("%.200s", unprintable.ReplaceAllString(text, " "))
}

// Takes note of a run, or refuses it: when it holds a ticket of a recent one, or is not above one
// that was admitted before it was asked for. Several nodes may share an address: their tickets
// differ by increment and remainder.
func (c *Client) admit(s *server, run Range, asked time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, old := range s.latest {
		isLater := c.checkOrder && old.at.Before(asked)
		if run.First <= old.Last() && (isLater || old.First <= run.Last()) &&
			run.Increment == old.Increment && run.First%run.Increment == old.First%run.Increment {
			return fmt.Errorf("issued %d after %d, and tickets must not go backwards: its counter "+
				"may have been set back, or several processes share this address",
				run.First, old.Last())
		}
	}
	if len(s.latest) == runsMax {
		s.latest = s.latest[1:]
	}
	s.latest = append(s.latest, admitted{run, time.Now()})
	s.pausedUntil, s.pause = time.Time{}, pauseMin
	return nil
}

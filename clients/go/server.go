package tickr

// One server: how it is asked, how it has been doing, and what is believed of its responses.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

const (
	pauseMin = time.Second
	pauseMax = 30 * time.Second
	idleMax  = 8
	runsMax  = 1000
	pathMax  = 107
	headMax  = 8 << 10
	bodyMax  = 64 << 10
)

var serverURL = regexp.MustCompile(
	`^http://(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?/?$`)

// How the library reports a connection that ended too soon; what else it reports is no HTTP.
var lost = regexp.MustCompile(`EOF$|reset|broken pipe|closed`)

type server struct {
	name, base  string
	transport   *http.Transport
	pausedUntil time.Time // It is the last choice until then.
	pause       time.Duration
	admitted    atomic.Uint64 // Runs so far.
	latest      []admitted
}

type admitted struct {
	Range
	number uint64
}

// The text is not repeated in errors: it may hold a password.
func newServer(url string) (*server, error) {
	transport := &http.Transport{
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleMax,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: headMax,
	}
	if path := strings.TrimPrefix(url, "unix:"); path != url {
		if path == "" || len(path) > pathMax || strings.Contains(path, "\x00") {
			return nil, errors.New("no Unix socket can have this path")
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return &server{name: url, base: "http://localhost", transport: transport}, nil
	}
	if strings.Contains(url, "@") {
		return nil, errors.New("it contains a user name or password, which others could see")
	}
	match := serverURL.FindStringSubmatch(url)
	if match == nil || match[1] != "" && (net.ParseIP(match[1]) == nil ||
		!strings.Contains(match[1], ":")) {
		return nil, errors.New("use http://HOST:PORT or unix:PATH")
	}
	if match[3] == "" {
		match[3] = "80"
	}
	if port, err := strconv.ParseUint(match[3], 10, 16); err != nil || port == 0 {
		return nil, errors.New("it has no valid port")
	}
	base := "http://" + net.JoinHostPort(match[1]+match[2], match[3])
	return &server{name: base, base: base, transport: transport}, nil
}

func (c *Client) fetch(caller context.Context, s *server, count uint64) (Range, error) {
	ctx, cancel := context.WithTimeout(caller, c.timeout)
	defer cancel()
	run, stale, err := c.attempt(ctx, s, count)
	for stale && ctx.Err() == nil {
		// A kept connection may lead to a process that is about to end, while its successor has
		// moved on.
		s.transport.CloseIdleConnections()
		run, stale, err = c.attempt(ctx, s, count)
	}
	if c.background.Err() != nil {
		s.transport.CloseIdleConnections()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var refused *RefusedError
	switch {
	case err == nil:
		s.pausedUntil, s.pause = time.Time{}, 0
	case caller.Err() == nil && !errors.As(err, &refused):
		s.blame(time.Now())
	}
	return run, err
}

// It is the last choice for a second, and for twice as long each time it fails again.
func (s *server) blame(now time.Time) {
	s.transport.CloseIdleConnections()
	if s.pausedUntil.After(now) {
		return
	}
	if s.pause *= 2; s.pause == 0 {
		s.pause = pauseMin
	} else if s.pause > pauseMax {
		s.pause = pauseMax
	}
	s.pausedUntil = now.Add(s.pause)
}

// Asks once. When it fails as a stale connection does, a new one is worth a try.
func (c *Client) attempt(ctx context.Context, s *server, count uint64) (
	run Range, stale bool, err error,
) {
	var before uint64
	if c.checkOrder {
		before = s.admitted.Load()
	}
	reused := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(connection httptrace.GotConnInfo) { reused = connection.Reused },
	})
	url := fmt.Sprintf("%s/tickets/create/%d?format=range", s.base, count)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return run, false, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "tickr-go/"+Version)
	if c.password != "" {
		request.SetBasicAuth("tickr", c.password)
	}
	// Not by an http.Client, which would follow redirects.
	response, err := s.transport.RoundTrip(request)
	if err != nil {
		return run, reused, failure(err)
	}
	defer response.Body.Close()
	var body []byte
	if response.StatusCode >= 200 { // What follows a 101 has no end.
		body, err = io.ReadAll(io.LimitReader(response.Body, bodyMax+1))
	}
	switch {
	case response.StatusCode == 400:
		return run, false, &RefusedError{s.name, detail(body)}
	case response.StatusCode != 200:
		text := fmt.Sprintf("responded %d: %s", response.StatusCode, detail(body))
		return run, false, errors.New(strings.TrimSuffix(text, ": "))
	case err != nil:
		return run, reused, failure(err)
	case response.ProtoMajor != 1:
		return run, false, notTickr("not an HTTP/1 response")
	case response.ContentLength < 0 && response.TransferEncoding == nil:
		return run, false, notTickr("it does not say how long its body is")
	case len(body) > bodyMax:
		return run, false, notTickr("the response is too long")
	}
	if run, err = parse(body, count); err != nil {
		return run, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err = s.admit(run, before); err != nil {
		return Range{}, reused, err
	}
	return run, false, nil
}

func failure(err error) error {
	var network net.Error
	var operation *net.OpError
	switch {
	case errors.As(err, &network) && network.Timeout():
		return errors.New("did not answer in time")
	case errors.As(err, &operation) && operation.Op == "dial":
		return fmt.Errorf("can't be reached (%w)", err)
	}
	if lost.MatchString(err.Error()) {
		return fmt.Errorf("closed the connection early (%w)", err)
	}
	return notTickr(err.Error())
}

func notTickr(reason string) error {
	return errors.New("did not respond like a Tickr server: " + reason)
}

// The explanation of a problem, if any, on one line and without what would steer a terminal.
func detail(body []byte) string {
	var problem struct{ Detail string }
	_ = json.Unmarshal(body, &problem)
	return fmt.Sprintf("%.200s", strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, problem.Detail))
}

// Nothing is believed that could not be so.
func parse(body []byte, count uint64) (Range, error) {
	var answer struct {
		First            *uint64
		Increment, Count uint64
	}
	if !json.Valid(body) {
		return Range{}, notTickr("the body is not JSON")
	}
	err := json.Unmarshal(body, &answer)
	high, distance := bits.Mul64(count-1, answer.Increment)
	if err == nil && answer.First != nil && answer.Increment > 0 && answer.Count == count {
		if _, carry := bits.Add64(*answer.First, distance, 0); high == 0 && carry == 0 {
			return Range{*answer.First, answer.Increment, count}, nil
		}
	}
	return Range{}, notTickr("the body is not the range asked for")
}

// Takes note of a run, or refuses it: when it holds a ticket of a recent one, or is not above one
// that was admitted before it was asked for. Several nodes may share an address: their tickets
// differ by increment and remainder.
func (s *server) admit(run Range, before uint64) error {
	for _, old := range s.latest {
		if run.First <= old.Last() && (old.number < before || old.First <= run.Last()) &&
			run.Increment == old.Increment && run.First%run.Increment == old.First%run.Increment {
			return fmt.Errorf("issued %d after %d, and tickets must not go backwards: its counter "+
				"may have been set back, or several processes share this address",
				run.First, old.Last())
		}
	}
	if len(s.latest) == runsMax {
		s.latest = s.latest[1:]
	}
	s.latest = append(s.latest, admitted{run, s.admitted.Add(1) - 1})
	return nil
}

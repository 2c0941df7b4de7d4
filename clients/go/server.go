package tickr

// One server: how it is asked, how it has been doing, and what is believed of its answers.

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
	"net/url"
	"sort"
	"strings"
	"sync"
	"time"
	"unicode"
)

var errLost = errors.New("closed the connection early")

type statusError struct {
	code   int
	detail string
}

func (e *statusError) Error() string {
	if e.detail == "" {
		return fmt.Sprintf("responded %d", e.code)
	}
	return fmt.Sprintf("responded %d: %s", e.code, e.detail)
}

type orderError struct{ first, issued uint64 }

func (e *orderError) Error() string {
	return fmt.Sprintf("issued %d after %d, and tickets must not go backwards: its counter may "+
		"have been set back, or several processes share this address", e.first, e.issued)
}

// Several nodes may share an address; their tickets differ by the increment and the remainder.
type class struct{ increment, remainder uint64 }

// What a node has issued to this client.
type node struct {
	highest uint64
	latest  []Range
}

type server struct {
	name, base string // The name is shown, and so holds no password.
	password   string
	transport  *http.Transport
	fresh      *http.Transport // Makes a connection for each request.

	mu          sync.Mutex
	pausedUntil time.Time // It is the last choice until then.
	pause       time.Duration
	nodes       map[class]*node
}

func newServer(text, password string) (*server, error) {
	s := &server{name: text, base: "http://localhost", password: password, pause: pauseMin,
		nodes: map[class]*node{}}
	s.transport = &http.Transport{
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: headMax,
	}
	if path := strings.TrimPrefix(text, "unix:"); path != text {
		if path == "" {
			return nil, errors.New("it has no path after unix:")
		}
		s.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	} else {
		// The error of url.Parse repeats the text, which may hold a password.
		parsed, err := url.Parse(text)
		if err != nil || parsed.Scheme != "http" || parsed.Hostname() == "" ||
			(parsed.Path != "" && parsed.Path != "/") || parsed.RawQuery != "" ||
			parsed.ForceQuery || parsed.Fragment != "" {
			return nil, errors.New("use http://HOST:PORT or unix:PATH")
		}
		if own, ok := parsed.User.Password(); ok {
			s.password = own
		}
		s.base = "http://" + parsed.Host
		s.name = s.base
	}
	s.fresh = s.transport.Clone()
	s.fresh.DisableKeepAlives = true
	return s, nil
}

// By preference, but those that have failed lately come last.
func inOrder(servers []*server) []*server {
	now := time.Now()
	order := append([]*server(nil), servers...)
	paused := map[*server]bool{}
	for _, s := range order {
		s.mu.Lock()
		paused[s] = s.pausedUntil.After(now)
		s.mu.Unlock()
	}
	sort.SliceStable(order, func(a, b int) bool { return !paused[order[a]] && paused[order[b]] })
	return order
}

func (s *server) fetch(
	caller context.Context, count uint64, timeout time.Duration, checkOrder bool,
) (Range, error) {
	ctx, cancel := context.WithTimeout(caller, timeout)
	defer cancel()
	run, reused, err := s.attempt(ctx, s.transport, count, checkOrder)
	var order *orderError
	if reused && (errors.Is(err, errLost) || errors.As(err, &order)) {
		// A kept connection may lead to a process that is about to end, while its successor has
		// moved on.
		s.transport.CloseIdleConnections()
		run, _, err = s.attempt(ctx, s.fresh, count, checkOrder)
	}
	var status *statusError
	s.mu.Lock()
	defer s.mu.Unlock()
	switch now := time.Now(); {
	case err == nil:
		s.pausedUntil, s.pause = time.Time{}, pauseMin
	case errors.As(err, &status) && status.code == 400, caller.Err() != nil:
	default:
		s.transport.CloseIdleConnections()
		if s.pausedUntil.Before(now) {
			s.pausedUntil = now.Add(s.pause)
			if s.pause *= 2; s.pause > pauseMax {
				s.pause = pauseMax
			}
		}
		if ctx.Err() != nil {
			err = errors.New("did not answer in time")
		}
	}
	return run, err
}

func (s *server) attempt(
	ctx context.Context, transport *http.Transport, count uint64, checkOrder bool,
) (run Range, reused bool, err error) {
	var marks map[class]uint64
	if checkOrder {
		marks = s.marks()
	}
	var connected bool
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		connected, reused = true, info.Reused
	}}
	target := fmt.Sprintf("%s/tickets/create/%d?format=range", s.base, count)
	request, err := http.NewRequestWithContext(
		httptrace.WithClientTrace(ctx, trace), http.MethodGet, target, nil)
	if err != nil {
		return run, false, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "tickr-go/"+Version)
	if s.password != "" {
		request.SetBasicAuth("tickr", s.password)
	}
	// Not a http.Client: a redirect is not followed.
	response, err := transport.RoundTrip(request)
	if err != nil {
		if connected {
			return run, reused, fmt.Errorf("%w (%v)", errLost, err)
		}
		return run, reused, fmt.Errorf("can't be reached (%w)", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, bodyMax+1))
	if response.StatusCode != 200 {
		// What became of the explanation matters less than the status.
		var problem struct{ Detail string }
		_ = json.Unmarshal(body, &problem)
		return run, reused, &statusError{response.StatusCode, printable(problem.Detail)}
	}
	if err != nil {
		return run, reused, fmt.Errorf("%w (%v)", errLost, err)
	}
	if response.ContentLength < 0 && len(response.TransferEncoding) == 0 {
		return run, reused, errors.New("did not respond like a Tickr server: no Content-Length")
	}
	if run, err = parse(body, count); err == nil {
		err = s.admit(run, marks)
	}
	return run, reused, err
}

// Nothing is believed that could not be so.
func parse(body []byte, count uint64) (Range, error) {
	var answer struct{ First, Increment, Count *uint64 }
	err := json.Unmarshal(body, &answer)
	if err == nil && answer.First != nil && answer.Increment != nil && answer.Count != nil {
		run := Range{*answer.First, *answer.Increment, *answer.Count}
		high, distance := bits.Mul64(count-1, run.Increment)
		_, carry := bits.Add64(run.First, distance, 0)
		if run.Count == count && run.Increment > 0 && high == 0 && carry == 0 {
			return run, nil
		}
	}
	return Range{}, errors.New(
		"did not respond like a Tickr server: the body is not the range asked for")
}

// The highest ticket of each node when a request is sent.
func (s *server) marks() map[class]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	marks := make(map[class]uint64, len(s.nodes))
	for class, node := range s.nodes {
		marks[class] = node.highest
	}
	return marks
}

// Takes note of a run, or refuses it: when it holds a ticket of a recent one, or is below what its
// node had issued before it was asked. Runs that were asked for at the same time come in any order.
func (s *server) admit(run Range, marks map[class]uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := class{run.Increment, run.First % run.Increment}
	known := s.nodes[key]
	if known == nil {
		for other := range s.nodes {
			if len(s.nodes) < nodesMax {
				break
			}
			delete(s.nodes, other)
		}
		known = &node{}
		s.nodes[key] = known
	}
	if highest, ok := marks[key]; ok && run.First <= highest {
		return &orderError{run.First, highest}
	}
	for _, other := range known.latest {
		if run.First <= other.Last() && other.First <= run.Last() {
			return &orderError{run.First, other.Last()}
		}
	}
	known.highest = most(known.highest, run.Last())
	if known.latest = append(known.latest, run); len(known.latest) > runsRemembered {
		known.latest = known.latest[1:]
	}
	return nil
}

// A server's text on one line, without what would steer a terminal.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if runes := []rune(strings.Join(strings.Fields(text), " ")); len(runes) > 300 {
		return string(runes[:300]) + "…"
	} else {
		return string(runes)
	}
}

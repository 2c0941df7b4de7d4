// Package tickr gets unique 64-bit IDs from Tickr servers: with fail-over, and a cache if wanted.
//
// Anything but tickets moves a call on to the next server. That is always safe: what a lost
// response held becomes a gap and is never issued again. Only a 400 is returned at once, as the
// request itself is wrong.
package tickr

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
	"sort"
	"strings"
	"sync"
	"time"
)

// Version is that of the server that this client was released with.
const Version = "0.1.0"

const (
	serversMax, pathMax, bodyMax, runsMax = 256, 107, 64 << 10, 1000

	pauseMin, pauseMax         = time.Second, 30 * time.Second
	cacheMin, lull, retryAfter = 16, 10 * time.Second, time.Second
)

// ErrClosed is returned by a client that is closed.
var ErrClosed = errors.New("tickr: the client is closed")

var (
	urls = regexp.MustCompile(`^(?:unix:([^\x00]+)|` +
		`http://(?:[\w.-]+|\[([\da-fA-F]*:[\da-fA-F:.]+)\])(?::([1-9]\d{0,4}))?/?)$`)
	// What could steer a terminal.
	unprintable = regexp.MustCompile(`[^\pL\pM\pN\pP\pS ]`)
)

// UnavailableError says that every server was tried and none gave tickets. It is safe to retry.
type UnavailableError struct {
	// Attempts are in the order in which the servers were tried.
	Attempts []Attempt
}

// Attempt is what came of one server.
type Attempt struct {
	Server string // Its URL.
	Err    error
}

func (e *UnavailableError) Error() string {
	text := "tickr: no server issued tickets; it is safe to retry:"
	for _, attempt := range e.Attempts {
		text += fmt.Sprintf("\n  %s %v", attempt.Server, attempt.Err)
	}
	return text
}

// RefusedError says that a server calls the request itself wrong (400). No other was asked.
type RefusedError struct{ Server, Detail string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("tickr: %s responded 400: %s", e.Server, e.Detail)
}

// Range is a run of tickets: First, First + Increment, …, Count of them.
type Range struct{ First, Increment, Count uint64 }

// At returns the ticket at an index below Count.
func (r Range) At(index uint64) uint64 { return r.First + index*r.Increment }

// Last returns the highest ticket.
func (r Range) Last() uint64 { return r.At(r.Count - 1) }

// Option is a setting of a client.
type Option func(*Client)

// WithTimeout sets how long one server may take, including connecting; 2 seconds unless set.
func WithTimeout(timeout time.Duration) Option { return func(c *Client) { c.timeout = timeout } }

// WithPassword sets the servers' TICKR_HTTP_AUTH_PASSWORD.
func WithPassword(password string) Option { return func(c *Client) { c.password = password } }

// WithCache lets Next have so many tickets in stock. How many there are follows the demand, and
// they are fetched in the background. What is left when the process ends is never issued.
func WithCache(tickets uint64) Option { return func(c *Client) { c.cacheMax = tickets } }

// WithCheckOrder(false) accepts tickets that go backwards, and refuses only repeated ones. It is
// for several processes of one node that share an address.
func WithCheckOrder(check bool) Option { return func(c *Client) { c.checkOrder = check } }

// Client gets tickets from one or more servers. Goroutines may share it.
type Client struct {
	timeout    time.Duration
	password   string
	cacheMax   uint64
	checkOrder bool
	servers    []*server
	background context.Context // Ends when the client is closed.
	stop       context.CancelFunc

	mu         sync.Mutex // Is for what follows, and for what changes of a server.
	stock      []uint64
	size, most uint64        // How many to have in stock, and the bound of that.
	filled     chan struct{} // Is closed at the end of the refill that is under way.
	failure    error         // Of the latest refill.
	restUntil  time.Time
}

// New returns a client of these servers, the preferred one first: http://HOST:PORT or unix:PATH.
// It connects to none of them yet.
func New(servers []string, options ...Option) (*Client, error) {
	c := &Client{timeout: 2 * time.Second, checkOrder: true}
	for _, option := range options {
		option(c)
	}
	if len(servers) == 0 || len(servers) > serversMax || c.timeout <= 0 {
		return nil, fmt.Errorf("tickr: a client needs 1 to %d servers and some time", serversMax)
	}
	for _, url := range servers {
		parts := urls.FindStringSubmatch(url)
		if parts == nil || len(parts[1]) > pathMax || len(parts[3]) == 5 && parts[3] > "65535" ||
			parts[2] != "" && net.ParseIP(parts[2]) == nil {
			// It does not show the URL, which may hold a password.
			return nil, errors.New("tickr: a server is unix:PATH or http://HOST:PORT, " +
				"without a user name or password, which others could see")
		}
		c.servers = append(c.servers, newServer(url, parts[1], parts[3], c.password))
	}
	c.size, c.most = least(cacheMin, c.cacheMax), c.cacheMax
	c.background, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// Close ends the client: what is under way fails, and what is left of the cache is never issued.
func (c *Client) Close() {
	c.stop()
	for _, s := range c.servers {
		s.transport.CloseIdleConnections()
	}
}

// Take returns so many tickets as one run, straight from a server; at most its TICKR_MAX_BATCH.
func (c *Client) Take(ctx context.Context, count uint64) (Range, error) {
	if count == 0 {
		return Range{}, errors.New("tickr: a batch must have at least one ticket")
	}
	c.mu.Lock()
	order, now := append([]*server(nil), c.servers...), time.Now()
	// As preferred, but those that failed of late come last.
	sort.SliceStable(order, func(a, b int) bool {
		return !order[a].pausedUntil.After(now) && order[b].pausedUntil.After(now)
	})
	c.mu.Unlock()
	var attempts []Attempt
	for _, s := range order {
		run, err := c.ask(ctx, s, count)
		if _, isRefused := err.(*RefusedError); err == nil || isRefused || err == ErrClosed {
			return run, err
		}
		if ctx.Err() != nil {
			return run, fmt.Errorf("tickr: %s: %w", s.name, ctx.Err())
		}
		c.blame(s)
		attempts = append(attempts, Attempt{s.name, err})
	}
	return Range{}, &UnavailableError{attempts}
}

// It is the last choice for a second, and for twice as long each time it fails again.
func (c *Client) blame(s *server) {
	s.transport.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.After(s.pausedUntil) {
		s.pausedUntil, s.pause = now.Add(s.pause), least(2*s.pause, pauseMax)
	}
}

// Next returns a ticket that nobody else gets. It fails only after all servers were tried since.
func (c *Client) Next(ctx context.Context) (uint64, error) {
	if c.cacheMax == 0 {
		run, err := c.Take(ctx, 1)
		return run.First, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for waited := false; c.background.Err() == nil; waited = true {
		count := uint64(len(c.stock))
		isLow := count == 0 || count <= c.size/2 && time.Now().After(c.restUntil)
		begins := isLow && c.filled == nil
		if begins {
			c.filled = make(chan struct{})
			go c.fill(c.size - count)
		}
		if count > 0 {
			ticket := c.stock[0]
			c.stock = c.stock[1:]
			return ticket, nil
		}
		filled := c.filled
		c.mu.Unlock()
		select {
		case <-filled:
		case <-ctx.Done():
		}
		c.mu.Lock()
		if ctx.Err() != nil {
			return 0, fmt.Errorf("tickr: %w", ctx.Err())
		}
		// One that was under way before may have failed before a server came back.
		if c.failure != nil && (begins || waited) {
			return 0, c.failure
		}
	}
	return 0, ErrClosed
}

func (c *Client) fill(count uint64) {
	run, err := c.Take(c.background, count)
	c.mu.Lock()
	defer c.mu.Unlock()
	now, left := time.Now(), uint64(len(c.stock))
	c.failure = nil
	switch _, isRefused := err.(*RefusedError); {
	case isRefused && count > 1:
		// The server issues fewer tickets at once. Who waits begins anew.
		c.most = count / 2
		c.size = least(c.size, c.most)
	case err != nil:
		c.failure, now = err, now.Add(retryAfter)
	case left <= c.size/4:
		// It came too late, or nearly so.
		c.size = least(2*c.size, c.most)
	case now.Sub(c.restUntil) > lull && c.size/2 >= cacheMin:
		c.size /= 2
	}
	c.restUntil = now
	for index := uint64(0); index < run.Count; index++ {
		c.stock = append(c.stock, run.At(index))
	}
	close(c.filled)
	c.filled = nil
}

// A server, and how it has been doing.
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

// The path is that of a socket, or empty. All of them are what the pattern allows.
func newServer(url, path, port, password string) *server {
	network, address, host := "unix", path, "localhost"
	if path == "" {
		host = strings.Trim(strings.TrimPrefix(url, "http:"), "/")
		if port == "" {
			host += ":80"
		}
		network, address, url = "tcp", host, "http://"+host
	}
	request, _ := http.NewRequest("GET", "http://"+host+"/tickets/create/?format=range", nil)
	request.Header = http.Header{"Accept": {"application/json"}, "User-Agent": {"tickr-go/" + Version}}
	if password != "" {
		request.SetBasicAuth("tickr", password)
	}
	return &server{name: url, request: request, pause: pauseMin, transport: &http.Transport{
		DisableCompression:     true,
		IdleConnTimeout:        time.Minute,
		MaxIdleConnsPerHost:    8,
		MaxResponseHeaderBytes: 8 << 10,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
}

// Asks within the time-out. A kept connection may be stale, or lead to a process that is about to
// end while its successor has moved on: what fails there is asked for again on a new one.
func (c *Client) ask(ctx context.Context, s *server, count uint64) (run Range, err error) {
	if c.background.Err() != nil {
		return run, ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	isKept, asked := false, time.Now()
	request := s.request.Clone(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(connection httptrace.GotConnInfo) { isKept = connection.Reused },
	}))
	request.URL.Path += fmt.Sprint(count)
	// Not by an http.Client, which would follow redirects.
	response, err := s.transport.RoundTrip(request)
	if err == nil {
		run, err = s.read(response, count)
	}
	if err == nil {
		err = c.admit(s, run, asked)
	}
	answered := response != nil && response.StatusCode != http.StatusOK
	var operation *net.OpError
	switch {
	case c.background.Err() != nil, isKept && err != nil && !answered && ctx.Err() == nil:
		s.transport.CloseIdleConnections()
		return c.ask(ctx, s, count)
	case err == nil || answered:
	case ctx.Err() != nil:
		err = errors.New("did not answer in time")
	case errors.As(err, &operation) && operation.Op == "dial":
		err = fmt.Errorf("can't be reached (%w)", err)
	default:
		err = errors.New("did not respond like a Tickr server: " + printable(err.Error()))
	}
	return run, err
}

// Nothing is believed that could not be so.
func (s *server) read(response *http.Response, count uint64) (run Range, err error) {
	defer response.Body.Close()
	// A length of -1 is unknown. What follows a 101 has no end, and counts as 0.
	most := least(uint64(response.ContentLength), bodyMax+1)
	body, err := io.ReadAll(io.LimitReader(response.Body, int64(most)))
	var answer struct {
		First            *uint64
		Increment, Count uint64
		Detail           string
	}
	wrong := json.Unmarshal(body, &answer)
	switch {
	case response.StatusCode == http.StatusBadRequest:
		return run, &RefusedError{s.name, printable(answer.Detail)}
	case response.StatusCode != http.StatusOK:
		text := fmt.Sprintf("responded %d: %s", response.StatusCode, printable(answer.Detail))
		return run, errors.New(strings.TrimSuffix(text, ": "))
	case err != nil:
		return run, err
	case response.ProtoMajor != 1, response.ContentLength < 0 && response.TransferEncoding == nil:
		return run, errors.New("it is not HTTP/1 with a length")
	case len(body) > bodyMax:
		return run, errors.New("the response is too long")
	case !json.Valid(body):
		return run, errors.New("the body is not JSON")
	case wrong != nil || answer.First == nil || answer.Increment == 0 || answer.Count != count ||
		count-1 > (math.MaxUint64-*answer.First)/answer.Increment:
		return run, errors.New("the body is not the range asked for")
	}
	return Range{*answer.First, answer.Increment, count}, nil
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

func least[T uint64 | time.Duration](a, b T) T {
	if a < b {
		return a
	}
	return b
}

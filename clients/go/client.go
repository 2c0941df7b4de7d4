// Package tickr gets unique 64-bit IDs from Tickr servers: with fail-over, and a cache if wanted.
//
// Anything but tickets moves a call on to the next server. That is always safe: what a lost
// response held becomes a gap and is never issued again. Only a 400 is returned at once, as the
// request itself is wrong.
package tickr

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"
)

// Version is that of the server that this client was released with.
const Version = "0.1.0"

const serversMax = 256

// ErrClosed is returned by a client that is closed.
var ErrClosed = errors.New("tickr: the client is closed")

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
	checkOrder bool
	cacheMax   uint64
	servers    []*server
	background context.Context // Ends when the client is closed.
	stop       context.CancelFunc

	mu    sync.Mutex // Is for the cache, and for what changes of a server.
	cache cache
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
		s, err := newServer(url, c.password)
		if err != nil {
			return nil, err
		}
		c.servers = append(c.servers, s)
	}
	c.cache = cache{max: c.cacheMax, size: least(cacheMin, c.cacheMax)}
	c.background, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// Close ends the client and its idle connections. What is left of the cache is never issued.
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
	if c.background.Err() != nil {
		return Range{}, ErrClosed
	}
	var attempts []Attempt
	for _, s := range c.inOrder() {
		run, err := c.ask(ctx, s, count)
		if c.background.Err() != nil {
			// Its connection is idle only now.
			s.transport.CloseIdleConnections()
		}
		switch _, isRefused := err.(*RefusedError); {
		case err == nil || isRefused:
			return run, err
		case c.background.Err() != nil:
			return Range{}, ErrClosed
		case ctx.Err() != nil:
			return Range{}, fmt.Errorf("tickr: %s: %w", s.name, ctx.Err())
		}
		c.blame(s)
		attempts = append(attempts, Attempt{s.name, err})
	}
	return Range{}, &UnavailableError{attempts}
}

// The servers as preferred, but those that failed of late come last.
func (c *Client) inOrder() []*server {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	order := append([]*server(nil), c.servers...)
	sort.SliceStable(order, func(a, b int) bool {
		return !order[a].pausedUntil.After(now) && order[b].pausedUntil.After(now)
	})
	return order
}

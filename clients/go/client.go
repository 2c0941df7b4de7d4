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
func WithCache(tickets uint64) Option { return func(c *Client) { c.cache.max = tickets } }

// WithCheckOrder(false) accepts tickets that go backwards, and refuses only repeated ones. It is
// for several processes of one node that share an address.
func WithCheckOrder(check bool) Option { return func(c *Client) { c.checkOrder = check } }

// Client gets tickets from one or more servers. Goroutines may share it.
type Client struct {
	timeout    time.Duration
	password   string
	checkOrder bool
	servers    []*server
	background context.Context // Ends when the client is closed.
	stop       context.CancelFunc

	mu    sync.Mutex // Is for what follows, and for the state of the servers.
	cache cache
}

// New returns a client of these servers, the preferred one first: http://HOST:PORT or unix:PATH.
// It connects to none of them yet.
func New(servers []string, options ...Option) (*Client, error) {
	c := &Client{timeout: 2 * time.Second, checkOrder: true}
	for _, option := range options {
		option(c)
	}
	if len(servers) == 0 || len(servers) > serversMax {
		return nil, fmt.Errorf("tickr: a client takes 1 to %d servers", serversMax)
	}
	if c.timeout <= 0 {
		return nil, errors.New("tickr: the time-out must be greater than zero")
	}
	for _, url := range servers {
		server, err := newServer(url)
		if err != nil {
			return nil, fmt.Errorf("tickr: invalid server URL: %w", err)
		}
		c.servers = append(c.servers, server)
	}
	c.cache.size = least(cacheMin, c.cache.max)
	c.background, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// Close ends the client and its idle connections. What is left of the cache is never issued.
func (c *Client) Close() {
	c.stop()
	for _, server := range c.servers {
		server.transport.CloseIdleConnections()
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
	var order, paused []*server
	c.mu.Lock()
	for _, server := range c.servers {
		if server.pausedUntil.After(time.Now()) {
			paused = append(paused, server)
		} else {
			order = append(order, server)
		}
	}
	c.mu.Unlock()
	var attempts []Attempt
	for _, server := range append(order, paused...) {
		run, err := c.fetch(ctx, server, count)
		var refused *RefusedError
		switch {
		case err == nil || errors.As(err, &refused):
			return run, err
		case c.background.Err() != nil:
			return run, ErrClosed
		case ctx.Err() != nil:
			return run, fmt.Errorf("tickr: %s: %w", server.name, ctx.Err())
		}
		attempts = append(attempts, Attempt{server.name, err})
	}
	return Range{}, &UnavailableError{attempts}
}

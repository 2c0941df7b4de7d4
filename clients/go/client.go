// Package tickr is a client of Tickr, which issues unique 64-bit IDs over HTTP.
//
// Anything but tickets moves a call on to the next server: that is always safe, as what a lost
// response held becomes a gap and is never issued again. A server that failed is the last choice
// for a second, and for twice as long each time it fails again, up to half a minute. Only a 400 is
// returned at once: the request itself is wrong.
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

const (
	serversMax      = 256
	cacheMin        = 16
	lull            = 10 * time.Second
	pauseMin        = time.Second
	pauseMax        = 30 * time.Second
	defaultTimeout  = 2 * time.Second
	nodesMax        = 64
	runsRemembered  = 32
	idleConnections = 8
	bodyMax         = 64 << 10
	headMax         = 8 << 10
)

// ErrClosed is returned once the client is closed.
var ErrClosed = errors.New("tickr: the client is closed")

// Range is a run of tickets: First, First+Increment, …, Count of them.
type Range struct{ First, Increment, Count uint64 }

// At returns the ticket at an index below Count.
func (r Range) At(index uint64) uint64 { return r.First + index*r.Increment }

// Last returns the highest ticket.
func (r Range) Last() uint64 { return r.At(r.Count - 1) }

// Attempt is what came of one server.
type Attempt struct {
	Server string
	Err    error
}

// UnavailableError says that every server was tried and none gave tickets. It is safe to retry.
type UnavailableError struct{ Attempts []Attempt }

func (e *UnavailableError) Error() string {
	text := "tickr: no server issued tickets; it is safe to retry:"
	for _, attempt := range e.Attempts {
		text += fmt.Sprintf("\n  %s %v", attempt.Server, attempt.Err)
	}
	return text
}

// RefusedError says that a server calls the request itself wrong; the others were not asked.
type RefusedError struct {
	Server string
	Status int
	Detail string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("tickr: %s responded %d: %s", e.Server, e.Status, e.Detail)
}

// Option changes how a client behaves.
type Option func(*Client)

// WithTimeout sets how long one server may take to respond, connecting included; 2 s unless set.
func WithTimeout(timeout time.Duration) Option { return func(c *Client) { c.timeout = timeout } }

// WithPassword sets the servers' password, for those that have none in their URL.
func WithPassword(password string) Option { return func(c *Client) { c.password = password } }

// WithCache lets Next take tickets from a cache of at most this many. Its size follows demand, and
// it is refilled in the background. What is left in it when the process ends is never issued.
func WithCache(tickets uint64) Option { return func(c *Client) { c.cacheMax = tickets } }

// WithCheckOrder set to false lets tickets go backwards, and refuses only those that are repeated.
// It is for several processes of one node that share an address.
func WithCheckOrder(check bool) Option { return func(c *Client) { c.checkOrder = check } }

// Client gets tickets from one or more servers. It is safe for use by several goroutines.
type Client struct {
	timeout    time.Duration
	password   string
	checkOrder bool
	servers    []*server
	background context.Context
	stop       context.CancelFunc

	mu       sync.Mutex
	cacheMax uint64
	cache    []Range
	left     uint64 // Tickets in cache.
	size     uint64 // How many to have; it follows demand.
	landedAt time.Time
	retryAt  time.Time
	attempts uint64 // Refills begun so far.
	refill   *refill
}

// A refill of the cache; err is set before done is closed.
type refill struct {
	number uint64
	done   chan struct{}
	err    error
}

// New returns a client of these servers, the preferred one first: http://HOST[:PORT],
// http://USER:PASSWORD@HOST[:PORT] or unix:PATH. It connects to nothing yet.
func New(servers []string, options ...Option) (*Client, error) {
	c := &Client{timeout: defaultTimeout, checkOrder: true}
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
		server, err := newServer(url, c.password)
		if err != nil {
			return nil, fmt.Errorf("tickr: invalid server URL: %w", err)
		}
		c.servers = append(c.servers, server)
	}
	c.size = least(cacheMin, c.cacheMax)
	c.background, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// Close drops the cached tickets and the kept connections. Calls of Take that are under way end by
// themselves.
func (c *Client) Close() {
	c.stop()
	c.mu.Lock()
	c.cache, c.left = nil, 0
	c.mu.Unlock()
	for _, server := range c.servers {
		server.transport.CloseIdleConnections()
	}
}

// Take returns this many tickets as one run, straight from a server; at most its TICKR_MAX_BATCH.
func (c *Client) Take(ctx context.Context, count uint64) (Range, error) {
	if count == 0 {
		return Range{}, errors.New("tickr: a batch must have at least one ticket")
	}
	var attempts []Attempt
	for _, server := range inOrder(c.servers) {
		if c.background.Err() != nil {
			return Range{}, ErrClosed
		}
		run, err := server.fetch(ctx, count, c.timeout, c.checkOrder)
		var status *statusError
		switch {
		case err == nil:
			return run, nil
		case errors.As(err, &status) && status.code == 400:
			return Range{}, &RefusedError{server.name, status.code, status.detail}
		case ctx.Err() != nil:
			return Range{}, fmt.Errorf("tickr: %s: %w", server.name, ctx.Err())
		}
		attempts = append(attempts, Attempt{server.name, err})
	}
	return Range{}, &UnavailableError{attempts}
}

// Next returns a ticket that nobody else gets. It fails only after every server was tried since.
func (c *Client) Next(ctx context.Context) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("tickr: %w", err)
	}
	c.mu.Lock()
	if c.cacheMax == 0 {
		c.mu.Unlock()
		run, err := c.Take(ctx, 1)
		return run.First, err
	}
	for begun := c.attempts; ; c.mu.Lock() {
		if c.background.Err() != nil {
			c.mu.Unlock()
			return 0, ErrClosed
		}
		if ticket, ok := c.takeCached(); ok {
			if c.left <= c.size/2 && time.Now().After(c.retryAt) {
				c.startRefill()
			}
			c.mu.Unlock()
			return ticket, nil
		}
		current := c.startRefill()
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("tickr: %w", ctx.Err())
		case <-current.done:
			if current.err != nil && current.number > begun && c.background.Err() == nil {
				return 0, current.err
			}
		}
	}
}

func (c *Client) takeCached() (uint64, bool) {
	if c.left == 0 {
		return 0, false
	}
	run := &c.cache[0]
	ticket := run.First
	c.left--
	if run.Count--; run.Count == 0 {
		c.cache = c.cache[1:]
	} else {
		run.First += run.Increment
	}
	return ticket, true
}

// The refill that is under way; at most one is.
func (c *Client) startRefill() *refill {
	if c.refill == nil {
		c.attempts++
		c.refill = &refill{number: c.attempts, done: make(chan struct{})}
		if !c.landedAt.IsZero() && time.Since(c.landedAt) > lull {
			c.size = most(c.size/2, least(cacheMin, c.cacheMax))
		}
		c.landedAt = time.Time{}
		go c.runRefill(c.refill)
	}
	return c.refill
}

func (c *Client) runRefill(current *refill) {
	defer close(current.done)
	for {
		c.mu.Lock()
		count := uint64(1)
		if c.size > c.left {
			count = c.size - c.left
		}
		c.mu.Unlock()
		run, err := c.Take(c.background, count)
		c.mu.Lock()
		var refused *RefusedError
		if errors.As(err, &refused) && count > 1 {
			// The servers issue fewer at once.
			c.cacheMax = count / 2
			c.size = least(c.size, c.cacheMax)
			c.mu.Unlock()
			continue
		}
		c.refill, current.err = nil, err
		switch {
		case c.background.Err() != nil:
		case err != nil:
			c.retryAt = time.Now().Add(pauseMin)
		default:
			if c.left < (c.size+3)/4 && current.number > 1 {
				// It came too late, or nearly so.
				c.size = least(c.size*2, c.cacheMax)
			}
			c.retryAt, c.landedAt = time.Time{}, time.Now()
			c.left += run.Count
			c.cache = append(c.cache, run)
		}
		c.mu.Unlock()
		return
	}
}

func least(a, b uint64) uint64 {
	if a < b {
		return a
	}
	return b
}

func most(a, b uint64) uint64 {
	if a > b {
		return a
	}
	return b
}

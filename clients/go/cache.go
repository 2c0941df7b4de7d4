package tickr

// The cache of a client: as large as the demand, and refilled in the background.

import (
	"context"
	"fmt"
	"time"
)

const (
	cacheMin   = 16
	lull       = 10 * time.Second
	retryAfter = time.Second
)

type cache struct {
	max, size         uint64 // The size is how many to have: it follows the demand.
	current, next     Range
	refill            *refill // The one that is under way.
	landedAt, againAt time.Time
}

type refill struct {
	done chan struct{}
	err  error // Is set before done is closed.
}

// Next returns a ticket that nobody else gets. It fails only after all servers were tried since.
func (c *Client) Next(ctx context.Context) (uint64, error) {
	if c.cacheMax == 0 {
		run, err := c.Take(ctx, 1)
		return run.First, err
	}
	for waited := false; c.background.Err() == nil; waited = true {
		c.mu.Lock()
		ticket, ok := c.cache.pop()
		begins := c.cache.refill == nil && c.cache.isHungry()
		if begins {
			c.cache.refill = &refill{done: make(chan struct{})}
			go c.fill(c.cache.refill, c.cache.size-c.cache.current.Count)
		}
		refill := c.cache.refill
		c.mu.Unlock()
		if ok {
			return ticket, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("tickr: %w", ctx.Err())
		case <-refill.done:
			// One that was under way before may have failed before a server came back.
			if refill.err != nil && (begins || waited) {
				return 0, refill.err
			}
		}
	}
	return 0, ErrClosed
}

func (c *Client) fill(refill *refill, count uint64) {
	run, err := c.Take(c.background, count)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, isRefused := err.(*RefusedError); isRefused && count > 1 {
		// The server issues fewer tickets at once.
		c.cache.max = count / 2
		c.cache.size = least(c.cache.size, c.cache.max)
		go c.fill(refill, count/2)
		return
	}
	if c.cache.refill, refill.err = nil, err; err == nil {
		c.cache.land(run, time.Now())
	} else {
		c.cache.againAt = time.Now().Add(retryAfter)
	}
	close(refill.done)
}

// There is room for a refill when there is no next run yet.
func (c *cache) isHungry() bool {
	return c.next.Count == 0 && (c.current.Count == 0 ||
		c.current.Count <= c.size/2 && time.Now().After(c.againAt))
}

func (c *cache) pop() (ticket uint64, ok bool) {
	if c.current.Count == 0 {
		c.current, c.next = c.next, Range{}
	}
	if c.current.Count == 0 {
		return 0, false
	}
	ticket = c.current.First
	c.current.First += c.current.Increment
	c.current.Count--
	return ticket, true
}

func (c *cache) land(run Range, now time.Time) {
	switch {
	case c.landedAt.IsZero():
		// The first one is always late.
	case c.current.Count < (c.size+3)/4:
		// It came too late, or nearly so: the next one is larger.
		c.size = least(2*c.size, c.max)
	case now.Sub(c.landedAt) > lull && c.size/2 >= cacheMin:
		c.size /= 2
	}
	c.landedAt, c.next = now, run
}

func least[T uint64 | time.Duration](a, b T) T {
	if a < b {
		return a
	}
	return b
}

package tickr

// The cache of a client: as large as the demand, and refilled in the background.

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	cacheMin   = 16
	lull       = 10 * time.Second
	retryAfter = time.Second
)

type cache struct {
	max, size, left   uint64 // The size is how many to have: it follows the demand.
	runs              []Range
	refill            *refill // The one that is under way.
	landedAt, againAt time.Time
}

type refill struct {
	done chan struct{}
	err  error // Is set before done is closed.
}

// Next returns a ticket that nobody else gets. It fails only after all servers were tried since.
func (c *Client) Next(ctx context.Context) (uint64, error) {
	c.mu.Lock()
	if c.cache.max == 0 {
		c.mu.Unlock()
		run, err := c.Take(ctx, 1)
		return run.First, err
	}
	for before := c.cache.refill; ; c.mu.Lock() {
		if c.background.Err() != nil {
			c.mu.Unlock()
			return 0, ErrClosed
		}
		ticket, ok := c.cache.pop()
		if c.cache.refill == nil && c.cache.isHungry() {
			c.cache.refill = &refill{done: make(chan struct{})}
			go c.fill(c.cache.refill)
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
			if refill.err != nil && refill != before {
				return 0, refill.err
			}
		}
	}
}

func (c *Client) fill(refill *refill) {
	defer close(refill.done)
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		count := uint64(1)
		if c.cache.size > c.cache.left {
			count = c.cache.size - c.cache.left
		}
		c.mu.Unlock()
		run, err := c.Take(c.background, count)
		c.mu.Lock()
		var refused *RefusedError
		if count > 1 && errors.As(err, &refused) {
			// The server issues fewer tickets at once.
			c.cache.max = count / 2
			c.cache.size = least(c.cache.size, c.cache.max)
			continue
		}
		c.cache.refill, refill.err = nil, err
		if err == nil {
			c.cache.land(run, time.Now())
		} else {
			c.cache.againAt = time.Now().Add(retryAfter)
		}
		return
	}
}

func (c *cache) isHungry() bool {
	return c.left == 0 || c.left <= c.size/2 && time.Now().After(c.againAt)
}

func (c *cache) pop() (ticket uint64, ok bool) {
	if c.left == 0 {
		return 0, false
	}
	run := &c.runs[0]
	ticket = run.First
	run.First += run.Increment
	c.left--
	if run.Count--; run.Count == 0 {
		c.runs = c.runs[1:]
	}
	return ticket, true
}

func (c *cache) land(run Range, now time.Time) {
	switch {
	case c.landedAt.IsZero():
		// The first one is always late.
	case c.left < (c.size+3)/4:
		// It came too late, or nearly so: the next one is larger.
		c.size = least(2*c.size, c.max)
	case now.Sub(c.landedAt) > lull && c.size/2 >= cacheMin:
		c.size /= 2
	}
	c.landedAt, c.againAt = now, time.Time{}
	c.left += run.Count
	c.runs = append(c.runs, run)
}

func least(a, b uint64) uint64 {
	if a < b {
		return a
	}
	return b
}

package tickr

// What the conformance suite can not see of the cache: its size, its clock, and contexts.

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

func inOrder(t *testing.T, c *Client, first, count uint64) {
	t.Helper()
	for ticket := first; ticket < first+count; ticket++ {
		equal(t, next(t, c), ticket)
	}
}

func TestAFailedRefillIsNotTriedWithEachTicket(t *testing.T) {
	s := serve(t, sends(tickets(1, 16, 1), response("503 No", "")))
	c := client(t, []string{s.url}, WithCache(16))
	inOrder(t, c, 1, 7)
	c.mu.Lock()
	c.restUntil = time.Now().Add(time.Hour)
	c.mu.Unlock()
	for ticket := uint64(8); ticket < 16; ticket++ {
		equal(t, next(t, c), ticket)
		c.mu.Lock()
		filled := c.filled
		c.mu.Unlock()
		if filled != nil || len(s.asked()) > 1 {
			t.Fatal("tried with ticket", ticket)
		}
	}
	// The last one makes a new one worth its while.
	equal(t, next(t, c), uint64(16))
	_, err := c.Next(background)
	contains(t, err, "responded 503")
}

func TestWhoCameLaterIsNotToldOfAnOldFailure(t *testing.T) {
	asked, goOn := make(chan struct{}), make(chan struct{})
	number := 0
	s := serve(t, func(connection net.Conn, count uint64) bool {
		if number++; number == 1 {
			close(asked)
			<-goOn
			fmt.Fprint(connection, response("503 No", ""))
		} else {
			fmt.Fprint(connection, tickets(1, count, 1))
		}
		return true
	})
	c := client(t, []string{s.url}, WithCache(16))
	first := make(chan error, 1)
	go func() {
		_, err := c.Next(background)
		first <- err
	}()
	wait(t, asked)
	ctx := &watched{background, make(chan struct{}), sync.Once{}}
	second := make(chan error, 1)
	go func() {
		_, err := c.Next(ctx)
		second <- err
	}()
	wait(t, ctx.waited)
	close(goOn)
	contains(t, <-first, "responded 503")
	equal(t, <-second, nil)
}

// A context that tells when somebody waits for it.
type watched struct {
	context.Context
	waited chan struct{}
	once   sync.Once
}

func (w *watched) Done() <-chan struct{} {
	w.once.Do(func() { close(w.waited) })
	return w.Context.Done()
}

func TestTheCacheFollowsTheDemand(t *testing.T) {
	s := serve(t, good(1, 1))
	c := client(t, []string{s.url}, WithCache(1000))
	// What a refill finds in stock, and for how long there was none before.
	refill := func(left uint64, after time.Duration) uint64 {
		c.stock = make([]uint64, left)
		c.restUntil = time.Now().Add(-after)
		c.filled = make(chan struct{})
		c.fill(c.size - left)
		equal(t, uint64(len(c.stock)), s.asked()[len(s.asked())-1]+left)
		return c.size
	}
	for _, size := range []uint64{32, 64, 128, 256, 512, 1000, 1000} {
		equal(t, refill(c.size/4-1, time.Second), size)
	}
	// In time: it stays as it is.
	equal(t, refill(499, time.Second), uint64(1000))
	for _, size := range []uint64{500, 250, 125, 62, 31, 31} {
		equal(t, refill(c.size/2-1, lull+1), size)
	}
	// It is refilled at one half.
	c.stock = c.stock[:20]
	for count := len(s.asked()); len(c.stock) > 15; {
		next(t, c)
		c.mu.Lock()
		equal(t, c.filled == nil && len(s.asked()) == count, true)
		c.mu.Unlock()
	}
	next(t, c)
	c.mu.Lock()
	defer c.mu.Unlock()
	equal(t, c.filled != nil || len(c.stock) > 14, true)
}

func TestCloseEndsARefill(t *testing.T) {
	asked, stop := make(chan struct{}, 9), make(chan struct{})
	defer close(stop)
	s := serve(t, func(net.Conn, uint64) bool {
		asked <- struct{}{}
		<-stop
		return false
	})
	c := client(t, []string{s.url}, WithCache(16))
	failed := make(chan error, 1)
	go func() {
		_, err := c.Next(background)
		failed <- err
	}()
	wait(t, asked)
	c.mu.Lock()
	filled := c.filled
	c.mu.Unlock()
	c.Close()
	wait(t, filled)
	equal(t, <-failed, ErrClosed)
}

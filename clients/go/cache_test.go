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
	c.cache.againAt = time.Now().Add(time.Hour)
	c.mu.Unlock()
	for ticket := uint64(8); ticket < 16; ticket++ {
		equal(t, next(t, c), ticket)
		c.mu.Lock()
		refill := c.cache.refill
		c.mu.Unlock()
		if refill != nil || len(s.asked()) > 1 {
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
	now := time.Now()
	c := cache{max: 1000, size: 16}
	refill := func(until uint64, after time.Duration) uint64 {
		for c.current.Count+c.next.Count > until {
			c.pop()
		}
		now = now.Add(after)
		c.land(Range{1, 1, c.size - c.current.Count}, now)
		return c.size
	}
	// As it begins, it is empty; that is not late.
	equal(t, refill(0, 0), uint64(16))
	for _, size := range []uint64{32, 64, 128, 256, 512, 1000, 1000} {
		equal(t, refill(0, time.Second), size)
	}
	// In time: it stays as it is.
	equal(t, c.isHungry(), false)
	equal(t, refill(499, time.Second), uint64(1000))
	for _, size := range []uint64{500, 250, 125, 62, 31, 31} {
		equal(t, refill(c.size/2-1, lull+1), size)
	}
	for c.current.Count+c.next.Count > c.size/2 {
		equal(t, c.isHungry(), false)
		c.pop()
	}
	equal(t, c.isHungry(), true)
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
	refill := c.cache.refill
	c.mu.Unlock()
	c.Close()
	wait(t, refill.done)
	equal(t, <-failed, ErrClosed)
}

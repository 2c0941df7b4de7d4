package tickr

// The cache: off unless asked for, as large as the demand, filled in time, shared by goroutines.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sort"
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

func TestTheCacheIsOffUnlessAskedFor(t *testing.T) {
	s := serve(t, good(1, 1))
	inOrder(t, client(t, []string{s.url}), 1, 3)
	equal(t, s.asked(), []uint64{1, 1, 1})
}

func TestTheCacheKeepsToItsBound(t *testing.T) {
	s := serve(t, good(1, 1))
	inOrder(t, client(t, []string{s.url}, WithCache(300)), 1, 20_000)
	equal(t, s.asked()[0], uint64(cacheMin))
	if len(s.asked()) > 1000 {
		t.Error("it did not grow:", len(s.asked()))
	}
	for _, count := range s.asked() {
		if count > 300 {
			t.Error(count)
		}
	}
	small := client(t, []string{serve(t, good(1, 4)).url}, WithCache(3))
	for ticket := uint64(1); ticket < 200; ticket += 4 {
		equal(t, next(t, small), ticket)
	}
}

func TestTheCacheIsRefilledBeforeItIsDry(t *testing.T) {
	begun, goOn := make(chan struct{}, 9), make(chan struct{})
	number := uint64(1)
	s := serve(t, func(connection net.Conn, count uint64) bool {
		if number > 1 {
			begun <- struct{}{}
			<-goOn
		}
		fmt.Fprint(connection, tickets(number, count, 1))
		number += 1000
		return true
	})
	c := client(t, []string{s.url}, WithCache(16))
	inOrder(t, c, 1, 8)
	wait(t, begun)
	// The rest is issued while the server takes its time.
	inOrder(t, c, 9, 8)
	close(goOn)
	equal(t, next(t, c), uint64(1001))
}

func TestWhatIsLeftOutlivesTheServers(t *testing.T) {
	s := serve(t, good(1, 1))
	c := client(t, []string{s.url}, WithCache(16))
	next(t, c)
	s.close()
	inOrder(t, c, 2, 15)
	for try := 0; try < 2; try++ {
		_, err := c.Next(background)
		attempts(t, err)
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

func TestAServerThatIsBackIsAskedAgain(t *testing.T) {
	s := serve(t, sends(response("503 No", ""), response("503 No", ""), tickets(9, 16, 1)))
	c := client(t, []string{s.url}, WithCache(16))
	for try := 0; try < 2; try++ {
		_, err := c.Next(background)
		contains(t, err, "responded 503")
	}
	equal(t, next(t, c), uint64(9))
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

func TestLessIsAskedForWhereAServerIssuesLess(t *testing.T) {
	issue := good(1, 1)
	s := serve(t, func(connection net.Conn, count uint64) bool {
		if count > 2 {
			fmt.Fprint(connection, response("400 Bad Request", `{"detail":"too many"}`))
			return true
		}
		return issue(connection, count)
	})
	inOrder(t, client(t, []string{s.url}, WithCache(1000)), 1, 6)
	equal(t, s.asked()[:4], []uint64{16, 8, 4, 2})
	strict := serve(t, sends(response("400 Bad Request", "")))
	_, err := client(t, []string{strict.url}, WithCache(1000)).Next(background)
	var refused *RefusedError
	equal(t, errors.As(err, &refused), true)
}

func TestABatchComesStraightFromAServer(t *testing.T) {
	c := client(t, []string{serve(t, good(1, 1)).url}, WithCache(16))
	next(t, c)
	equal(t, take(t, c, 5), Range{17, 1, 5})
}

func TestTheCacheFollowsTheDemand(t *testing.T) {
	now := time.Now()
	c := cache{max: 1000, size: 16}
	refill := func(until uint64, after time.Duration) uint64 {
		for c.left > until {
			c.pop()
		}
		now = now.Add(after)
		c.land(Range{1, 1, c.size - c.left}, now)
		return c.size
	}
	// As it begins, it is empty; that is not late.
	equal(t, refill(0, 0), uint64(16))
	for _, size := range []uint64{32, 64, 128, 256, 512, 1000, 1000} {
		equal(t, refill(0, time.Second), size)
	}
	// In time: it stays as it is.
	equal(t, c.isHungry(), false)
	equal(t, refill(500, time.Second), uint64(1000))
	for _, size := range []uint64{500, 250, 125, 62, 31, 31} {
		equal(t, refill(c.size/2, lull+1), size)
	}
	for c.left > c.size/2 {
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

func TestGoroutinesShareAClientAndNoTicket(t *testing.T) {
	for _, size := range []uint64{2000, 3, 0} {
		each := 5000
		if size < 2000 {
			each = 200
		}
		s := serve(t, good(1, 1))
		c := client(t, []string{s.url}, WithCache(size))
		unique(t, together(t, 8, func() (mine []uint64) {
			for len(mine) < each {
				mine = append(mine, next(t, c))
			}
			return mine
		}), 8*each)
	}
}

// What so many goroutines take. None may see its tickets go backwards.
func together(t *testing.T, goroutines int, take func() []uint64) (all []uint64) {
	taken := make(chan []uint64, goroutines)
	for index := 0; index < goroutines; index++ {
		go func() {
			var mine []uint64
			defer func() { taken <- mine }() // Even when the test has failed.
			mine = take()
		}()
	}
	for index := 0; index < goroutines; index++ {
		mine := <-taken
		if !sort.SliceIsSorted(mine, func(a, b int) bool { return mine[a] < mine[b] }) {
			t.Error("a goroutine's tickets went backwards")
		}
		all = append(all, mine...)
	}
	return all
}

func unique(t *testing.T, tickets []uint64, count int) {
	t.Helper()
	seen := map[uint64]bool{}
	for _, ticket := range tickets {
		seen[ticket] = true
	}
	if len(seen) != count || len(tickets) != count {
		t.Fatalf("%d tickets, %d different ones, want %d", len(tickets), len(seen), count)
	}
}

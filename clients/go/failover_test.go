package tickr

// What the conformance suite can not see of fail-over: contexts, clocks, bounds and close.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"
)

func TestACallerThatGivesUpBlamesNobody(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	ctx, cancel := context.WithCancel(background)
	slow := serve(t, func(net.Conn, uint64) bool {
		cancel()
		<-stop
		return false
	})
	other := serve(t, good(1, 1))
	for _, option := range []Option{WithCache(0), WithCache(16)} {
		c := client(t, []string{slow.url, other.url}, option)
		if _, err := c.Next(ctx); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if _, err := c.Take(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		c.mu.Lock()
		blamed := !c.servers[0].pausedUntil.IsZero()
		c.mu.Unlock()
		if blamed || len(other.asked()) > 0 {
			t.Fatal("the server was blamed")
		}
	}
}

func TestWhoFailedComesLastForAWhile(t *testing.T) {
	bad := serve(t, sends(response("503 No", ""), tickets(1001, 1, 1)))
	other := serve(t, good(1, 1))
	c := client(t, []string{bad.url, other.url})
	later := time.Now().Add(time.Hour)
	equal(t, next(t, c), uint64(1))
	c.servers[0].pausedUntil = later
	equal(t, next(t, c), uint64(2))
	equal(t, len(bad.asked()), 1)
	// It is still asked when nobody else is left.
	other.close()
	equal(t, next(t, c), uint64(1001))
	// Its pause is over, and the next one is short again.
	equal(t, c.servers[0].pausedUntil, time.Time{})
	equal(t, c.servers[0].pause, pauseMin)
}

func TestAPauseDoublesWithinABound(t *testing.T) {
	c := client(t, []string{"http://tickr"})
	s := c.servers[0]
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		s.pausedUntil = time.Time{}
		before := time.Now()
		c.blame(s)
		until := s.pausedUntil
		// A second failure at the same time is the same failure.
		c.blame(s)
		equal(t, s.pausedUntil, until)
		earliest, latest := before.Add(pause*time.Second), time.Now().Add(pause*time.Second)
		if until.Before(earliest) || until.After(latest) {
			t.Fatal("it pauses for", until.Sub(before), "and not", pause*time.Second)
		}
	}
}

func TestRunsAskedForAtTheSameTimeComeInAnyOrder(t *testing.T) {
	c := client(t, []string{"http://tickr"})
	s, before := c.servers[0], time.Now()
	for _, first := range []uint64{101, 91, 111} {
		equal(t, c.admit(s, Range{first, 1, 5}, before), nil)
	}
	contains(t, c.admit(s, Range{95, 1, 1}, before), "issued 95 after 95")
	contains(t, c.admit(s, Range{99, 1, 1}, time.Now()), "issued 99 after 105")
	equal(t, c.admit(s, Range{99, 1, 1}, before), nil)
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	c := client(t, []string{"http://tickr"})
	s := c.servers[0]
	for first := uint64(1); first < 3*runsMax; first++ {
		equal(t, c.admit(s, Range{first, 1, 1}, time.Now()), nil)
	}
	equal(t, len(s.latest), runsMax)
	contains(t, c.admit(s, Range{1, 1, 1}, time.Now()), "issued 1 after")
}

func TestAnotherProtocolIsNotReadToItsEnd(t *testing.T) {
	s := serve(t, sends("HTTP/1.1 101 No\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"))
	c := client(t, []string{s.url}, WithTimeout(time.Second))
	failed := make(chan error, 1)
	go func() {
		_, err := c.Next(background)
		failed <- err
	}()
	select {
	case err := <-failed:
		contains(t, err, "responded 101")
	case <-time.After(deadline):
		t.Fatal("it waits")
	}
}

func TestNoProxyOfTheEnvironmentIsUsed(t *testing.T) {
	// The variables are read once, by whoever asks first: a server as a proxy would prove nothing.
	for _, url := range []string{"http://tickr", "unix:tickr.sock"} {
		equal(t, client(t, []string{url}).servers[0].transport.Proxy == nil, true)
	}
}

func TestARequestThatOutlivesItsClientKeepsNoConnection(t *testing.T) {
	asked, goOn := make(chan struct{}, 1), make(chan struct{})
	number := uint64(0)
	s := serve(t, func(connection net.Conn, count uint64) bool {
		if number++; number == 2 {
			asked <- struct{}{}
			<-goOn
		}
		fmt.Fprint(connection, tickets(number, count, 1))
		return true
	})
	c := client(t, []string{s.url})
	next(t, c)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Its answer comes after the client is closed.
		if _, err := c.Next(background); err != ErrClosed {
			t.Error(err)
		}
	}()
	wait(t, asked)
	c.Close()
	close(goOn)
	wait(t, done)
	wait(t, s.left)
	equal(t, s.connected(), 1)
}

func TestWhatCanNotBeIsRefused(t *testing.T) {
	if _, err := New(make([]string, serversMax+1)); err == nil {
		t.Error("too many servers")
	}
	_, err := New([]string{"http://me:secret@tickr"})
	contains(t, err, "user name or password")
}

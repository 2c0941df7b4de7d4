package tickr

// Servers that are dead, wrong, slow or broken: another is asked, and the error names all.

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestADeadServerIsPassedOver(t *testing.T) {
	dead := serve(t, good(1, 1))
	dead.close()
	alive := serve(t, good(11, 4))
	c := client(t, []string{dead.url, "unix:" + filepath.Join(t.TempDir(), "none"), alive.url})
	equal(t, next(t, c), uint64(11))
	equal(t, take(t, c, 3), Range{15, 4, 3})
}

func TestAWrongServerIsPassedOver(t *testing.T) {
	problem := `{"title":"No","detail":"not now"}`
	for _, wrong := range []struct{ response, words string }{
		{response("302 Found", "", "Location: http://127.0.0.1/"), "responded 302"},
		{response("401 Unauthorized", problem), "responded 401: not now"},
		{response("404 Not Found", "<h1>no</h1>"), "responded 404"},
		{response("500 Oops", problem), "responded 500: not now"},
		{response("503 Service Unavailable", problem, "Retry-After: 1"), "responded 503: not now"},
		{"HTTP/1.1 204 No Content\r\n\r\n", "responded 204"},
		{"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "responded 101"},
		{response("200 OK", "<html>It works!</html>"), "not the range asked for"},
		{response("200 OK", `{"ok":true}`), "not the range asked for"},
		{response("200 OK", "[1]"), "not the range asked for"},
		{response("200 OK", strings.Repeat(" ", bodyMax)+"1"), "not the range asked for"},
		{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "headers exceeded"},
		{"SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed HTTP"},
	} {
		bad, other := serve(t, sends(wrong.response)), serve(t, good(5, 1))
		equal(t, take(t, client(t, []string{bad.url, other.url}), 2), Range{5, 1, 2})
		_, err := client(t, []string{bad.url}).Next(background)
		tried := attempts(t, err)
		equal(t, len(tried), 1)
		contains(t, tried[0], bad.url+" ")
		contains(t, tried[0], wrong.words)
	}
}

func TestA400IsReturnedAtOnce(t *testing.T) {
	strict := serve(t, sends(response("400 Bad Request", `{"detail":"over the largest batch"}`)))
	other := serve(t, good(1, 1))
	c := client(t, []string{strict.url, other.url})
	for try := 0; try < 3; try++ {
		_, err := c.Take(background, 1e9)
		var refused *RefusedError
		if !errors.As(err, &refused) {
			t.Fatal(err)
		}
		equal(t, *refused, RefusedError{strict.url, "over the largest batch"})
		equal(t, err.Error(), "tickr: "+strict.url+" responded 400: over the largest batch")
	}
	equal(t, len(strict.asked()), 3)
	equal(t, len(other.asked()), 0)
}

func TestTheErrorNamesEveryServer(t *testing.T) {
	var urls, expected []string
	for status := 500; status < 503; status++ {
		url := serve(t, sends(response(fmt.Sprint(status, " No"), ""))).url
		urls = append(urls, url)
		expected = append(expected, fmt.Sprintf("%s responded %d", url, status))
	}
	c := client(t, urls)
	for try := 0; try < 2; try++ {
		_, err := c.Take(background, 1)
		equal(t, attempts(t, err), expected)
		contains(t, err, "safe to retry:\n  "+strings.Join(expected, "\n  "))
	}
}

func TestAConnectionCutAtEachByte(t *testing.T) {
	body := `{"first":1,"increment":1,"count":2}`
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
		fmt.Sprintf("%x\r\n%s\r\n%x;a=b\r\n%s\r\n0\r\n\r\n", 5, body[:5], len(body)-5, body[5:])
	interim := "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
	other := serve(t, good(1001, 1))
	for _, whole := range []string{tickets(1, 2, 1), chunked, interim + chunked} {
		for end := 0; end <= len(whole); end++ {
			part := whole[:end]
			broken := serve(t, func(connection net.Conn, _ uint64) bool {
				fmt.Fprint(connection, part)
				return false
			})
			c := client(t, []string{broken.url, other.url})
			if run := take(t, c, 2); (run.First > 1000) != (end < len(whole)) {
				t.Fatalf("%v after %q", run, part)
			}
			c.Close()
			broken.close()
		}
	}
}

func TestAKeptConnectionThatBreaksIsMadeAnew(t *testing.T) {
	whole := tickets(1, 1, 1)
	number, end := uint64(0), 0
	s := serve(t, func(connection net.Conn, _ uint64) bool {
		if number++; number%2 == 1 {
			fmt.Fprint(connection, tickets(number, 1, 1))
			return true
		}
		fmt.Fprint(connection, whole[:end])
		return false
	})
	c := client(t, []string{s.url})
	equal(t, next(t, c), uint64(1))
	for end = 0; end < len(whole); end++ {
		equal(t, next(t, c), number)
	}
	equal(t, s.connected(), len(whole)+1)
}

func TestAnErrorOnAKeptConnectionIsAnError(t *testing.T) {
	s := serve(t, sends(tickets(1, 1, 1), response("503 No", "")))
	c := client(t, []string{s.url})
	next(t, c)
	_, err := c.Next(background)
	contains(t, err, "responded 503")
	equal(t, len(s.asked()), 2)
}

func TestConnectionsAreKept(t *testing.T) {
	s := serve(t, good(1, 1))
	c := client(t, []string{s.url})
	for ticket := uint64(1); ticket < 20; ticket++ {
		equal(t, next(t, c), ticket)
	}
	equal(t, s.connected(), 1)
}

func TestOnlySoManyConnectionsAreKept(t *testing.T) {
	var arrived sync.WaitGroup
	arrived.Add(20)
	issue := good(1, 1)
	s := serve(t, func(connection net.Conn, count uint64) bool {
		arrived.Done()
		arrived.Wait()
		return issue(connection, count)
	})
	c := client(t, []string{s.url})
	unique(t, together(t, 20, func() []uint64 { return []uint64{next(t, c)} }), 20)
	for surplus := 20 - idleMax; surplus > 0; surplus-- {
		wait(t, s.left)
	}
}

func TestASlowDripIsCutShort(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	for _, start := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n"} {
		slow := serve(t, func(connection net.Conn, _ uint64) bool {
			fmt.Fprint(connection, start)
			for _, piece := range tickets(1, 1, 1) {
				select {
				case <-stop:
					return false
				case <-time.After(50 * time.Millisecond):
					fmt.Fprint(connection, string(piece))
				}
			}
			return true
		})
		other := serve(t, good(7, 1))
		timeout := WithTimeout(time.Second)
		equal(t, next(t, client(t, []string{slow.url, other.url}, timeout)), uint64(7))
		_, err := client(t, []string{slow.url}, timeout).Next(background)
		equal(t, attempts(t, err), []string{slow.url + " did not answer in time"})
	}
}

func TestSilenceEndsWithTheTimeOut(t *testing.T) {
	// Accepted by the kernel and by nobody else.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	c := client(t, []string{"http://" + listener.Addr().String()}, WithTimeout(100*time.Millisecond))
	_, err = c.Next(background)
	contains(t, err, "did not answer in time")
}

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
	equal(t, c.servers[0].pause, time.Duration(0))
}

func TestAPauseDoublesWithinABound(t *testing.T) {
	s, err := newServer("http://tickr")
	if err != nil {
		t.Fatal(err)
	}
	var pauses []float64
	for now := time.Now(); len(pauses) < 7; now = s.pausedUntil {
		s.blame(now)
		// A second failure at the same time is the same failure.
		s.blame(now)
		pauses = append(pauses, s.pausedUntil.Sub(now).Seconds())
	}
	equal(t, pauses, []float64{1, 2, 4, 8, 16, 30, 30})
}

func TestNumbersThatGoBackwardsAreRefused(t *testing.T) {
	for _, again := range []uint64{101, 91, 97, 105, 1} {
		back := serve(t, issues(1, 101, again))
		other := serve(t, good(1001, 1))
		c := client(t, []string{back.url, other.url})
		equal(t, take(t, c, 5).First, uint64(101))
		equal(t, take(t, c, 5).First, uint64(1001))
		other.close()
		_, err := c.Take(background, 5)
		contains(t, err, fmt.Sprintf("%s issued %d after 105, and", back.url, again))
	}
}

func TestWithoutAnOrderOnlyRepeatedNumbersAreRefused(t *testing.T) {
	s := serve(t, issues(1, 101, 1, 50, 103))
	c := client(t, []string{s.url}, WithCheckOrder(false))
	for _, first := range []uint64{101, 1, 50} {
		equal(t, take(t, c, 5).First, first)
	}
	_, err := c.Take(background, 5)
	contains(t, err, "issued 103 after 105")
}

func TestNodesBehindOneAddressAreToldApart(t *testing.T) {
	firsts := []uint64{101, 2, 121, 22, 42, 141}
	c := client(t, []string{serve(t, issues(4, append(firsts, 82)...)).url})
	for _, first := range firsts {
		equal(t, take(t, c, 5).First, first)
	}
	equal(t, take(t, c, 5).First, uint64(82))
	_, err := c.Take(background, 5)
	contains(t, err, "issued 82 after 98")

	s, _ := newServer("http://tickr")
	equal(t, s.admit(Range{101, 4, 5}, 0), nil)
	equal(t, s.admit(Range{1, 5, 5}, 1), nil)
}

func TestRunsAskedForAtTheSameTimeComeInAnyOrder(t *testing.T) {
	s, _ := newServer("http://tickr")
	before := s.admitted.Load()
	for _, first := range []uint64{101, 91, 111} {
		equal(t, s.admit(Range{first, 1, 5}, before), nil)
	}
	contains(t, s.admit(Range{95, 1, 1}, before), "issued 95 after 95")
	contains(t, s.admit(Range{99, 1, 1}, s.admitted.Load()), "issued 99 after 105")
	equal(t, s.admit(Range{99, 1, 1}, before), nil)
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	s, _ := newServer("http://tickr")
	for first := uint64(1); first < 3*runsMax; first++ {
		equal(t, s.admit(Range{first, 1, 1}, s.admitted.Load()), nil)
	}
	equal(t, len(s.latest), runsMax)
	contains(t, s.admit(Range{1, 1, 1}, s.admitted.Load()), "issued 1 after")
}

func TestAKeptConnectionThatFellBehindIsMadeAnew(t *testing.T) {
	s := serve(t, issues(1, 100, 50, 200))
	c := client(t, []string{s.url})
	equal(t, next(t, c), uint64(100))
	equal(t, next(t, c), uint64(200))
	equal(t, s.connected(), 2)
}

func TestABodyThatIsNoRangeIsRefused(t *testing.T) {
	for _, body := range []string{
		"", "7", "null", "[7,11,15,19,23]", "\xff", "{", strings.Repeat("[", 50_000), "{}",
		`{"first":7,"increment":4}`, `{"increment":4,"count":5}`, `{"first":7,"count":5}`,
		`{"first":null,"increment":4,"count":5}`, `{"first":"7","increment":"4","count":"5"}`,
		`{"first":7.0,"increment":4,"count":5}`, `{"first":7.5,"increment":4,"count":5}`,
		`{"first":true,"increment":4,"count":5}`, `{"first":-1,"increment":4,"count":5}`,
		`{"first":7e0,"increment":4,"count":5}`, `{"first":7,"increment":0,"count":5}`,
		`{"first":7,"increment":-4,"count":5}`, `{"first":7,"increment":4,"count":4}`,
		`{"first":7,"increment":4,"count":6}`, `{"first":7,"increment":4,"count":5}}`,
		`{"first":18446744073709551600,"increment":4,"count":5}`,
		`{"first":0,"increment":4611686018427387904,"count":5}`,
		`{"first":18446744073709551616,"increment":4,"count":5}`,
	} {
		if run, err := parse([]byte(body), 5); err == nil {
			t.Errorf("%.60s is %v", body, run)
		}
	}
}

func TestLargeTicketsComeUnchanged(t *testing.T) {
	for _, first := range []uint64{1<<53 + 1, 1<<63 - 1, 1<<63 + 1, math.MaxUint64 - 2} {
		s := serve(t, issues(1, first))
		equal(t, next(t, client(t, []string{s.url})), first)
		cached := client(t, []string{s.url}, WithCache(3))
		for index := uint64(0); index < 3; index++ {
			equal(t, next(t, cached), first+index)
		}
		equal(t, take(t, client(t, []string{s.url}), 3).Last(), first+2)
	}
}

func TestThePasswordIsSentAndNeverShown(t *testing.T) {
	s := serve(t, sends(response("401 No", "")))
	_, err := client(t, []string{s.url}, WithPassword("s ü:@")).Next(background)
	contains(t, s.lastRequest(), "\r\nAuthorization: Basic dGlja3I6cyDDvDpA\r\n")
	equal(t, attempts(t, err), []string{s.url + " responded 401"})
	_, err = client(t, []string{s.url}).Next(background)
	equal(t, attempts(t, err), []string{s.url + " responded 401"})
	if strings.Contains(s.lastRequest(), "Authorization") {
		t.Fatal(s.lastRequest())
	}
}

func TestAnExplanationCanNotSteerATerminal(t *testing.T) {
	text := detail([]byte(`{"detail":"a\u001b[2J\r\nb\u202e` + strings.Repeat("ü", 1000) + `"}`))
	equal(t, text, "a [2J  b "+strings.Repeat("ü", 191))
	equal(t, detail([]byte(`{"detail":5}`)), "")
}

func TestAUnixSocket(t *testing.T) {
	s := serveOn(t, "unix", filepath.Join(t.TempDir(), "a socket"), good(5, 1))
	c := client(t, []string{s.url})
	equal(t, next(t, c), uint64(5))
	equal(t, next(t, c), uint64(6))
	contains(t, s.lastRequest(), "\r\nHost: localhost\r\n")
	equal(t, s.connected(), 1)
}

func TestNoProxyOfTheEnvironmentIsUsed(t *testing.T) {
	// The variables are read once, by whoever asks first: a server as a proxy would prove nothing.
	for _, url := range []string{"http://tickr", "unix:tickr.sock"} {
		s, err := newServer(url)
		equal(t, err, nil)
		equal(t, s.transport.Proxy == nil, true)
	}
}

func TestCloseEndsTheConnectionsAndTheClient(t *testing.T) {
	for _, option := range []Option{WithCache(0), WithCache(100)} {
		s := serve(t, good(1, 1))
		c := client(t, []string{s.url}, option)
		next(t, c)
		c.Close()
		wait(t, s.left)
		c.Close()
		before := len(s.asked())
		_, err := c.Next(background)
		equal(t, err, ErrClosed)
		_, err = c.Take(background, 1)
		equal(t, err, ErrClosed)
		equal(t, len(s.asked()), before)
	}
}

func TestARequestThatOutlivesItsClientKeepsNoConnection(t *testing.T) {
	asked, goOn := make(chan struct{}, 1), make(chan struct{})
	number := uint64(0)
	s := serve(t, func(connection net.Conn, count uint64) bool {
		if number++; number%2 == 0 {
			asked <- struct{}{}
			<-goOn
			return false
		}
		fmt.Fprint(connection, tickets(number, count, 1))
		return true
	})
	c := client(t, []string{s.url})
	next(t, c)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The kept connection breaks after the client is closed, and a new one is made.
		if ticket, err := c.Next(background); ticket != 3 || err != nil {
			t.Error(ticket, err)
		}
	}()
	wait(t, asked)
	c.Close()
	close(goOn)
	wait(t, done)
	wait(t, s.left)
	equal(t, s.connected(), 2)
}

func TestURLsAreReadAndShown(t *testing.T) {
	for url, name := range map[string]string{
		"http://tickr":         "http://tickr:80",
		"http://tickr:8080/":   "http://tickr:8080",
		"http://[::1]:8080":    "http://[::1]:8080",
		"http://[::1]":         "http://[::1]:80",
		"unix:/run/tickr.sock": "unix:/run/tickr.sock",
		"unix:tickr@.sock":     "unix:tickr@.sock",
	} {
		s, err := newServer(url)
		if err != nil {
			t.Fatal(url, err)
		}
		equal(t, s.name, name)
	}
}

func TestWhatCanNotBeIsRefusedWithoutShowingIt(t *testing.T) {
	for _, url := range []string{
		"tickr:8080", "https://tickr", "unix:", "unix:/a\x00b", "unix:/" + strings.Repeat("secret", 18),
		"http://tickr/status", "http://tickr?x", "http://tickr#x", "http://:8080",
		"http://[tickr]:1", "http://[::1::]", "http://ti ckr", "http://tickr:", "http://tickr:0",
		"http://tickr:+80", "http://tickr:65536", "http://tickr:123456", "http://secret@tickr",
		"http://me:secret@tickr:8080", "http://tickr\r\nX: y", "http://tickr\n", "",
	} {
		_, err := New([]string{url})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
	_, err := New([]string{"http://me:secret@tickr"})
	contains(t, err, "user name or password")
	for _, count := range []int{0, serversMax + 1} {
		if _, err := New(make([]string, count)); err == nil {
			t.Error(count, "servers")
		}
	}
	if _, err := New([]string{"http://tickr"}, WithTimeout(0)); err == nil {
		t.Error("no time-out")
	}
	if _, err := client(t, []string{"http://tickr"}).Take(background, 0); err == nil {
		t.Error("a batch of none")
	}
}

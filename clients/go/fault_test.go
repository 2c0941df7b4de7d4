package tickr

// A server that misbehaves as it is told: what it sends is up to the test.

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// No test waits longer than this for what must come.
const deadline = time.Minute

var background = context.Background()

// The bytes of a whole response.
func response(status, body string, fields ...string) string {
	lines := append([]string{"HTTP/1.1 " + status, "Content-Length: " + strconv.Itoa(len(body))},
		fields...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

func tickets(first, count, increment uint64) string {
	body := fmt.Sprintf(`{"first":%d,"increment":%d,"count":%d}`, first, increment, count)
	return response("200 OK", body)
}

// Sends what a request is to be answered with; false closes the connection.
type respond func(connection net.Conn, count uint64) bool

type faulty struct {
	url      string
	listener net.Listener
	left     chan struct{} // Gets one for each connection that a client has closed.

	mu          sync.Mutex
	connections []net.Conn
	requests    []string
}

func serve(t *testing.T, respond respond) *faulty {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	s := &faulty{url: url, listener: listener, left: make(chan struct{}, 1000)}
	t.Cleanup(s.close)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.connections = append(s.connections, connection)
			s.mu.Unlock()
			go s.serve(connection, respond)
		}
	}()
	return s
}

func (s *faulty) serve(connection net.Conn, respond respond) {
	defer connection.Close()
	reader := bufio.NewReader(connection)
	for {
		request := ""
		for !strings.HasSuffix(request, "\r\n\r\n") {
			line, err := reader.ReadString('\n')
			if err != nil {
				s.left <- struct{}{}
				return
			}
			request += line
		}
		s.mu.Lock()
		s.requests = append(s.requests, request)
		s.mu.Unlock()
		if !respond(connection, countOf(request)) {
			return
		}
	}
}

func countOf(request string) uint64 {
	target := strings.TrimPrefix(strings.SplitN(request, "?", 2)[0], "GET /tickets/create/")
	count, err := strconv.ParseUint(target, 10, 64)
	if err != nil || !strings.HasPrefix(request[len("GET /tickets/create/")+len(target):],
		"?format=range HTTP/1.1\r\n") {
		panic(request)
	}
	return count
}

func (s *faulty) close() {
	s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, connection := range s.connections {
		connection.Close()
	}
}

func (s *faulty) connected() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connections)
}

func (s *faulty) asked() (counts []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, request := range s.requests {
		counts = append(counts, countOf(request))
	}
	return counts
}

// Sends these, one for each request, and the last one for ever.
func sends(responses ...string) respond {
	var mu sync.Mutex
	return func(connection net.Conn, _ uint64) bool {
		mu.Lock()
		defer mu.Unlock()
		text := responses[0]
		if len(responses) > 1 {
			responses = responses[1:]
		}
		_, err := connection.Write([]byte(text))
		return err == nil
	}
}

// Issues tickets as it should, from this one on.
func good(first, increment uint64) respond {
	var mu sync.Mutex
	return func(connection net.Conn, count uint64) bool {
		mu.Lock()
		issued := first
		first += count * increment
		mu.Unlock()
		_, err := connection.Write([]byte(tickets(issued, count, increment)))
		return err == nil
	}
}

func client(t *testing.T, urls []string, options ...Option) *Client {
	t.Helper()
	c, err := New(urls, append([]Option{WithTimeout(deadline)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func next(t *testing.T, c *Client) uint64 {
	t.Helper()
	ticket, err := c.Next(background)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func equal(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func contains(t *testing.T, text any, part string) {
	t.Helper()
	if !strings.Contains(fmt.Sprint(text), part) {
		t.Fatalf("%q is not in %q", part, fmt.Sprint(text))
	}
}

func wait(t *testing.T, channel <-chan struct{}) {
	t.Helper()
	select {
	case <-channel:
	case <-time.After(deadline):
		t.Fatal("it never came")
	}
}

package tickr

// The real server: batches, passwords, large numbers, goroutines, restarts under load, and GORM.

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A server with a private MySQL server, started by `tickr dev`.
type live struct {
	t       *testing.T
	folder  string
	url     string
	options []Option
	command []string
	process *exec.Cmd
}

func start(t *testing.T, password string, arguments ...string) *live {
	t.Helper()
	program := os.Getenv("TICKR")
	if program == "" {
		t.Skip("TICKR is not the path of a server")
	}
	// That of t.TempDir can be too long for a socket.
	folder, err := os.MkdirTemp("", "tickr")
	if err != nil {
		t.Fatal(err)
	}
	l := &live{t: t, folder: folder, url: "unix:" + folder + "/tickr.sock",
		options: []Option{WithPassword(password)}}
	l.command = append([]string{program, "dev", "--data-dir", folder + "/data",
		"--listen", l.url, "--database-pool-timeout", "20"}, arguments...)
	if password != "" {
		l.command = append(l.command, "--http-auth-password", password)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	t.Cleanup(l.stop)
	l.start()
	return l
}

func (l *live) start() {
	l.t.Helper()
	log, err := os.OpenFile(l.folder+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		l.t.Fatal(err)
	}
	defer log.Close()
	l.process = exec.Command(l.command[0], l.command[1:]...)
	l.process.Stdout, l.process.Stderr = log, log
	if err := l.process.Start(); err != nil {
		l.t.Fatal(err)
	}
	c := client(l.t, []string{l.url}, l.options...)
	defer c.Close()
	for end := time.Now().Add(deadline); ; time.Sleep(50 * time.Millisecond) {
		_, err := c.Next(background)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(l.folder + "/log")
			l.t.Fatalf("tickr does not start: %v\n%s", err, text)
		}
	}
}

func (l *live) stop() {
	if l.process != nil && l.process.Process != nil {
		_ = l.process.Process.Signal(syscall.SIGTERM)
		_ = l.process.Wait()
		l.process = nil
	}
}

func TestLiveTicketsAndBatches(t *testing.T) {
	l := start(t, "", "--max-nodes", "4")
	c := client(t, []string{l.url})
	one, run := next(t, c), take(t, c, 1000)
	equal(t, []uint64{run.Increment, run.Count}, []uint64{4, 1000})
	if run.First <= one || next(t, c) <= run.Last() {
		t.Error(one, run)
	}
	_, err := c.Take(background, 1e9)
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	contains(t, refused.Detail, "TICKR_MAX_BATCH")

	cached := client(t, []string{l.url}, WithCache(10_000))
	all := together(t, 20, func() (mine []uint64) {
		for len(mine) < 1000 {
			mine = append(mine, next(t, cached))
		}
		return mine
	})
	unique(t, append(all, one, next(t, c), next(t, cached)), 20_003)
}

func TestLivePasswords(t *testing.T) {
	l := start(t, "s p:@ß")
	next(t, client(t, []string{l.url}, l.options...))
	for _, wrong := range []string{"", "wrong"} {
		_, err := client(t, []string{l.url}, WithPassword(wrong)).Next(background)
		contains(t, err, "responded 401")
	}
}

func TestLiveLargeTickets(t *testing.T) {
	for _, offset := range []uint64{1 << 53, 1 << 63} {
		l := start(t, "", "--max-nodes", "4", "--starting-offset", fmt.Sprint(offset))
		c, cached := client(t, []string{l.url}), client(t, []string{l.url}, WithCache(100))
		var taken []uint64
		for index := uint64(0); index < 50; index++ {
			taken = append(taken, next(t, c), next(t, cached), take(t, c, 2).Last())
		}
		unique(t, taken, 150)
		for _, ticket := range taken {
			if ticket < offset || ticket%4 != 0 {
				t.Error(ticket)
			}
		}
	}
}

func TestLiveRestartsUnderLoadWithoutAnErrorSeen(t *testing.T) {
	first := start(t, "", "--node-number", "0")
	second := start(t, "", "--node-number", "1")
	urls := []string{first.url, second.url}
	var stop atomic.Bool
	clients := make(chan *Client, 8)
	for index := 0; index < 2; index++ {
		plain, cached := client(t, urls), client(t, urls, WithCache(200))
		clients <- plain
		clients <- plain
		clients <- cached
		clients <- cached
	}
	taken := make(chan []uint64)
	for len(clients) > 0 {
		c := <-clients
		go func() {
			var mine []uint64
			for !stop.Load() {
				ticket, err := c.Next(background)
				if err != nil {
					t.Error(err)
					break
				}
				mine = append(mine, ticket)
			}
			taken <- mine
		}()
	}
	for _, server := range []*live{first, second, first} {
		server.stop()
		server.start()
	}
	stop.Store(true)
	var all []uint64
	for index := 0; index < 8; index++ {
		all = append(all, <-taken...)
	}
	unique(t, all, len(all))
	nodes := map[uint64]bool{}
	for _, ticket := range all {
		nodes[ticket%4] = true
	}
	equal(t, nodes, map[uint64]bool{1: true, 2: true})
}

// Four processes insert 10,000 rows into MariaDB by GORM, and no id may come twice. It is GORM 1,
// which Debian has; its packages are for programs without modules.
func TestLiveGORM(t *testing.T) {
	const processes, rows = 4, 2500
	l := start(t, "")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(l.folder+"/go/src/example.org/tickr/clients", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(here, l.folder+"/go/src/example.org/tickr/clients/go"); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(l.folder, "recipe")
	command := func(name string, arguments ...string) *exec.Cmd {
		c := exec.Command(name, arguments...)
		c.Stderr = os.Stderr
		c.Env = append(os.Environ(), "GO111MODULE=off", "GOFLAGS=",
			"GOPATH="+l.folder+"/go:/usr/share/gocode", "TICKR_SERVERS="+l.url,
			"MYSQL_SOCKET="+l.folder+"/data/mysql/mysql.sock")
		return c
	}
	run := func(c *exec.Cmd) string {
		t.Helper()
		output, err := c.Output()
		if err != nil {
			t.Fatalf("%v: %v: is golang-github-jinzhu-gorm-dev installed?", c.Args, err)
		}
		return strings.TrimSpace(string(output))
	}
	run(command("go", "build", "-o", program, "./testdata/gorm"))
	run(command(program, "prepare"))
	var inserting []*exec.Cmd
	for number := 0; number < processes; number++ {
		c := command(program, "insert", fmt.Sprint(rows))
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		inserting = append(inserting, c)
	}
	for _, c := range inserting {
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
	equal(t, run(command(program, "count")), fmt.Sprintf("%d rows, %[1]d ids", processes*rows))
}

package tickr

// GORM with the real server.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A server with a private MySQL server, started by `tickr dev`.
type live struct {
	t       *testing.T
	folder  string
	url     string
	process *exec.Cmd
}

func start(t *testing.T) *live {
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
	l := &live{t: t, folder: folder, url: "unix:" + folder + "/tickr.sock"}
	t.Cleanup(func() { os.RemoveAll(folder) })
	t.Cleanup(l.stop)
	l.start(program)
	return l
}

func (l *live) start(program string) {
	l.t.Helper()
	log, err := os.OpenFile(l.folder+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		l.t.Fatal(err)
	}
	defer log.Close()
	l.process = exec.Command(program, "dev", "--data-dir", l.folder+"/data", "--listen", l.url,
		"--database-pool-timeout", "20")
	l.process.Stdout, l.process.Stderr = log, log
	if err := l.process.Start(); err != nil {
		l.t.Fatal(err)
	}
	c := client(l.t, []string{l.url})
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

// Debian's packages are for programs without modules.
const packages = "/usr/share/gocode"

func TestLiveGORM1(t *testing.T) { gorm(t, "gorm1", packages) }

// GORM2 is the GOPATH of a GORM 2, if Debian's is none.
func TestLiveGORM2(t *testing.T) {
	path := packages
	if other := os.Getenv("GORM2"); other != "" {
		path = other + ":" + packages
	}
	if _, err := os.Stat(filepath.SplitList(path)[0] + "/src/gorm.io/gorm"); err != nil {
		t.Skip("there is no GORM 2: ", err)
	}
	gorm(t, "gorm2", path)
}

// Four processes insert 10,000 rows into MariaDB, and no id may come twice.
func gorm(t *testing.T, tag, path string) {
	const processes, rows = 4, 2500
	l := start(t)
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
			"GOPATH="+l.folder+"/go:"+path, "TICKR_SERVERS="+l.url,
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
	run(command("go", "build", "-tags", tag, "-o", program, "./testdata/gorm"))
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

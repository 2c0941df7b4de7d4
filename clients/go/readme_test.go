package tickr

// The samples of the page are tried as they stand, with servers at other addresses.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestTheSamplesOfThePageWork(t *testing.T) {
	page := read(t, "README.md")
	samples := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(page, -1)
	equal(t, len(samples), 2)

	url := serve(t, good(5, 4)).url
	program := regexp.MustCompile(`"(http|unix):[^"]*"`).ReplaceAllString(samples[0][1], `"`+url+`"`)
	folder := t.TempDir()
	for name, text := range map[string]string{"main.go": program, "go.mod": "module sample\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	install := regexp.MustCompile("(?s)```sh\ngo (.*?)\n```").FindStringSubmatch(page)[1]
	install = strings.Replace(install, "=../tickr/clients/go", "="+here, 1)
	output := ""
	for _, arguments := range [][]string{strings.Fields(install), {"run", "."}} {
		command := exec.Command("go", arguments...)
		command.Dir = folder
		command.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod")
		text, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		output = string(text)
	}
	equal(t, output, fmt.Sprintln(5, "and", 9, "to", 9+4*999))

	// The other one is a part of what is tried with the library.
	_, shown, _ := strings.Cut(samples[1][1], "// Order is")
	contains(t, read(t, "testdata/gorm/gorm2.go"), shown)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

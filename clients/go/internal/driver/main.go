// The driver for ../../../conformance. Go programs do not fork.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	tickr "example.org/tickr/clients/go"
)

type command struct {
	Do           string
	Servers      []string
	Timeout      *int64
	Cache, Count uint64
	Threads      int
	Password     string
	CheckOrder   *bool `json:"check_order"`
	Until        string
}

type failure struct {
	Kind     string      `json:"kind"`
	Message  string      `json:"message"`
	Server   string      `json:"server,omitempty"`
	Detail   string      `json:"detail"`
	Attempts [][2]string `json:"attempts,omitempty"`
}

var background = context.Background()

func open(c command) (*tickr.Client, error) {
	options := []tickr.Option{tickr.WithCache(c.Cache), tickr.WithPassword(c.Password)}
	if c.Timeout != nil {
		timeout := time.Duration(*c.Timeout) * time.Millisecond
		options = append(options, tickr.WithTimeout(timeout))
	}
	if c.CheckOrder != nil {
		options = append(options, tickr.WithCheckOrder(*c.CheckOrder))
	}
	return tickr.New(c.Servers, options...)
}

func take(client *tickr.Client, count uint64, path string) (taken []string, err error) {
	for uint64(len(taken)) < count || path != "" {
		if path != "" {
			if _, err := os.Stat(path); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		ticket, err := client.Next(background)
		if err != nil {
			return taken, err
		}
		taken = append(taken, fmt.Sprint(ticket))
	}
	return taken, nil
}

func threads(client *tickr.Client, c command) (all []string, failed error) {
	type result struct {
		taken []string
		err   error
	}
	results := make(chan result)
	for index := 0; index < c.Threads; index++ {
		go func() {
			taken, err := take(client, c.Count, c.Until)
			results <- result{taken, err}
		}()
	}
	for index := 0; index < c.Threads; index++ {
		result := <-results
		all = append(all, result.taken...)
		if result.err != nil {
			failed = result.err
		}
	}
	return all, failed
}

func tell(err error) *failure {
	if err == nil {
		return nil
	}
	told := failure{Kind: "invalid", Message: err.Error()}
	var unavailable *tickr.UnavailableError
	var refused *tickr.RefusedError
	switch {
	case errors.As(err, &unavailable):
		told.Kind = "unavailable"
		for _, attempt := range unavailable.Attempts {
			told.Attempts = append(told.Attempts, [2]string{attempt.Server, attempt.Err.Error()})
		}
	case errors.As(err, &refused):
		told.Kind, told.Server, told.Detail = "refused", refused.Server, refused.Detail
	case errors.Is(err, tickr.ErrClosed):
		told.Kind = "closed"
	}
	return &told
}

func main() {
	var client *tickr.Client
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			panic(err)
		}
		var err error
		taken := []string{}
		switch c.Do {
		case "open":
			client, err = open(c)
		case "next":
			taken, err = take(client, c.Count, "")
		case "take":
			var run tickr.Range
			run, err = client.Take(background, c.Count)
			for index := uint64(0); index < run.Count; index++ {
				taken = append(taken, fmt.Sprint(run.At(index)))
			}
		case "threads":
			taken, err = threads(client, c)
		case "close":
			client.Close()
		}
		answer := map[string]any{"tickets": taken, "error": tell(err), "lacks": c.Do == "fork"}
		if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
			panic(err)
		}
	}
}

package main

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/hyperdhttest"
)

// lines hands each thing that is printed to the test.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// A unary call and a stream, which ends when the service does.
func TestCallAndWatch(t *testing.T) {
	net := hyperdhttest.Start(t, 5)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	serving, stop := context.WithCancel(ctx)
	defer stop()
	served, got := make(lines, 10), make(lines, 10)
	serveDone, callDone := make(chan error, 1), make(chan error, 1)
	go func() { serveDone <- run(serving, served, net.Config(hyperdht.Config{}), options{serve: true}) }()
	key := regexp.MustCompile(`[0-9a-f]{64}`).FindString(<-served)
	go func() { callDone <- run(ctx, got, net.Config(hyperdht.Config{}), options{key: key}) }()
	for _, want := range []string{"it is SERVING\n", "now SERVING\n"} {
		select {
		case line := <-got:
			if line != want {
				t.Errorf("%q was printed, want %q", line, want)
			}
		case err := <-callDone:
			t.Fatalf("the call ended: %v", err)
		}
	}
	stop()
	if err := <-callDone; err != nil {
		t.Error(err)
	}
	if err := <-serveDone; err != nil {
		t.Error(err)
	}
	if line := <-got; line != "now NOT_SERVING\n" {
		t.Errorf("%q was printed last", line)
	}
	if line := <-served; !strings.HasSuffix(line, " calls /grpc.health.v1.Health/Check\n") {
		t.Errorf("the service printed %q", line)
	}
}

// What is no key is not dialled.
func TestNoKey(t *testing.T) {
	net := hyperdhttest.Start(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := run(ctx, make(lines, 10), net.Config(hyperdht.Config{}), options{key: "example.org"}); err == nil || !strings.Contains(err.Error(), "key") {
		t.Errorf("%v", err)
	}
}

package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// errInterrupted is the cause of a context that a signal has ended.
var errInterrupted = errors.New("interrupted")

// untilSignal returns a context that ends at the first SIGINT or SIGTERM. The
// second one ends the process at once. SIGPIPE does not: a write to a pipe that
// nobody reads fails, so that there is time to take leave of the peers.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	pipes := make(chan os.Signal, 1) // never read
	signal.Notify(pipes, syscall.SIGPIPE)
	go func() {
		<-signals
		cancel(errInterrupted)
		s := <-signals
		status := 1
		if n, ok := s.(syscall.Signal); ok {
			status = 128 + int(n)
		}
		os.Exit(status)
	}()
	return ctx, func() { signal.Stop(signals); signal.Stop(pipes); cancel(nil) }
}

// interrupted tells whether a signal has asked the command to end.
func interrupted(ctx context.Context) bool { return errors.Is(context.Cause(ctx), errInterrupted) }

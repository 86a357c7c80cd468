package dhtrpc1

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestCloseInEveryPhase: whatever is under way when a node closes ends at once
// with ErrClosed, or has ended.
func TestCloseInEveryPhase(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond, 1600 * time.Millisecond, 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			n := newTestNet(t, 12)
			for _, gone := range n.nodes[9:] {
				gone.Close()
			}
			var held []*Request
			c := n.listen(Config{Bootstrap: n.bootstrap(), Handler: HandlerFunc(func(r *Request) { held = append(held, r) })})
			var all sync.WaitGroup
			closed := make(chan struct{})
			run := func(name string, f func(context.Context) error) {
				all.Go(func() {
					err := f(t.Context())
					select {
					case <-closed:
						if !errors.Is(err, ErrClosed) {
							t.Errorf("%s, closed after %v: %v", name, after, err)
						}
					default:
					}
				})
			}
			q := Query{Command: "values", Target: ID{7}, Value: []byte("x")}
			run("Ready", c.Ready)
			run("Query", func(ctx context.Context) error { _, err := Collect(c.Query(ctx, q)); return err })
			run("Closest", func(ctx context.Context) error { _, err := Collect(c.Closest(ctx, q)); return err })
			run("Bootstrap", c.Bootstrap)
			run("Ping", func(ctx context.Context) error { _, err := c.Ping(ctx, n.nodes[10].LocalAddr()); return err })
			run("Holepunch", func(ctx context.Context) error {
				_, err := c.Holepunch(ctx, n.nodes[10].LocalAddr(), n.boot.LocalAddr())
				return err
			})
			all.Go(func() {
				Collect(n.nodes[0].Query(t.Context(), Query{Command: "values", Nodes: []Peer{{Addr: c.LocalAddr()}}}))
			})
			time.Sleep(after)
			start := time.Now()
			close(closed)
			c.Close()
			for _, r := range held {
				r.Reply([]byte("too late"))
			}
			if d := time.Since(start); d > 0 {
				t.Errorf("closing after %v took %v", after, d)
			}
			all.Wait()
			if _, err := Collect(c.Query(t.Context(), q)); !errors.Is(err, ErrClosed) {
				t.Errorf("a query afterwards: %v", err)
			}
		})
	}
}

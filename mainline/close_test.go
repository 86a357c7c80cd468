package mainline

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestCloseInEveryPhase: whatever is under way when a node closes ends at once
// with ErrClosed, or has ended.
func TestCloseInEveryPhase(t *testing.T) {
	for _, after := range []time.Duration{0, time.Millisecond, 30 * time.Millisecond, 45 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			tn := newTestnet(t, 12)
			defer func() { tn.close() }()
			for _, n := range tn.nodes[9:] {
				n.Close()
			}
			tn.nodes = tn.nodes[:9]
			cfg := tn.config()
			cfg.Bootstrap = append(cfg.Bootstrap, "slow.test:1")
			cfg.Resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) {
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
				return nil, errors.New("no such host")
			}
			n, err := Listen(cfg)
			if err != nil {
				t.Fatal(err)
			}
			item := Sign(seed, nil, 1, StringValue("x"))
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
			run("Ready", n.Ready)
			run("Lookup", func(ctx context.Context) error {
				l := n.Lookup(hashOf("x"))
				for range l.Peers(ctx) {
				}
				return l.Err()
			})
			run("Announce", func(ctx context.Context) error { _, err := n.Announce(ctx, hashOf("x"), AnnounceOptions{}); return err })
			run("Put", func(ctx context.Context) error { _, err := n.Put(ctx, item); return err })
			run("Get", func(ctx context.Context) error { _, err := n.Get(ctx, hashOf("x")); return err })
			run("Keep", func(ctx context.Context) error { return n.Keep(ctx, item, nil) })
			run("KeepAnnounced", func(ctx context.Context) error {
				return n.KeepAnnounced(ctx, hashOf("y"), AnnounceOptions{}, nil)
			})
			run("Ping", func(ctx context.Context) error {
				_, err := n.Ping(ctx, netip.MustParseAddrPort("99.9.9.9:1"))
				return err
			})
			all.Go(func() {
				for range n.Events(t.Context()) {
				}
			})
			time.Sleep(after)
			start := time.Now()
			close(closed)
			n.Close()
			all.Wait()
			if d := time.Since(start); d > 0 {
				t.Errorf("closing after %v took %v", after, d)
			}
			if _, err := n.Put(t.Context(), item); !errors.Is(err, ErrClosed) {
				t.Errorf("a put afterwards: %v", err)
			}
		})
	}
}

package dhtrpc

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/vnet"
)

func TestSuspendAndResume(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 10)
		n := tn.add(Config{})
		events := record(t.Context(), n)
		server, client := n.ServerConn().LocalAddr(), n.ClientConn().LocalAddr()
		_, dead := tn.deaf()
		failed := make(chan error)
		go func() {
			_, err := n.Ping(t.Context(), dead)
			failed <- err
		}()
		synctest.Wait()
		if err := n.Suspend(); err != nil || !n.Suspended() {
			t.Fatal(err)
		}
		if err := <-failed; !errors.Is(err, ErrSuspended) {
			t.Errorf("a request in flight: %v", err)
		}
		if _, err := n.Ping(t.Context(), tn.addr()); !errors.Is(err, ErrSuspended) {
			t.Errorf("a request while suspended: %v", err)
		}
		if err := n.FindNode(ID{}, QueryOptions{}).Run(t.Context()); !errors.Is(err, ErrSuspended) {
			t.Errorf("a query while suspended: %v", err)
		}
		if err := n.Suspend(); err != nil {
			t.Errorf("suspended twice: %v", err)
		}
		if _, err := tn.first.Ping(t.Context(), server, NoRetry()); !errors.Is(err, ErrTimeout) {
			t.Errorf("a suspended node was reached: %v", err)
		}
		time.Sleep(time.Hour)
		if err := n.Resume(); err != nil {
			t.Fatal(err)
		}
		if n.ServerConn().LocalAddr() != server || n.ClientConn().LocalAddr() != client {
			t.Errorf("ports %v and %v, want the old ones", n.ServerConn().LocalAddr(), n.ClientConn().LocalAddr())
		}
		if err := n.Resume(); err != nil {
			t.Errorf("resumed twice: %v", err)
		}
		if _, err := n.Ping(t.Context(), tn.addr()); err != nil {
			t.Errorf("a request after resuming: %v", err)
		}
		time.Sleep(time.Minute)
		want := []EventKind{EventListening, EventReady, EventSuspend, EventListening, EventWakeup, EventResume}
		if got := kinds(events()); !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		// Suspended, a node can be closed.
		n.Suspend()
		n.Close()
		if err := n.Resume(); !errors.Is(err, ErrClosed) {
			t.Errorf("resumed a closed node: %v", err)
		}
		if err := n.Suspend(); !errors.Is(err, ErrClosed) {
			t.Errorf("suspended a closed node: %v", err)
		}
	})
}

// A node that is suspended while it bootstraps, at whatever moment, is not ready
// before it was resumed, and then does all that it had to do.
func TestSuspendWhileBootstrapping(t *testing.T) {
	for _, mode := range []EphemeralMode{Auto, Never} {
		bubble(t, func(t *testing.T) {
			tn := newTestNet(t, 30)
			for after := time.Duration(0); after < 400*time.Millisecond; after += 20 * time.Millisecond {
				n, err := Listen(Config{Network: tn.net.Host(), Bootstrap: []string{tn.addr().String()}, Ephemeral: mode})
				if err != nil {
					t.Fatal(err)
				}
				events := record(t.Context(), n)
				time.Sleep(after)
				n.Suspend()
				ready := n.Bootstrapped() // asked only now, as it may become so in this very instant
				time.Sleep(time.Minute)
				if got := kinds(events()); slices.Contains(got, EventReady) != ready || n.Bootstrapped() != ready {
					t.Errorf("suspended after %v: ready %v, was %v; events %v", after, n.Bootstrapped(), ready, got)
				}
				n.Resume()
				if !ready { // and again
					time.Sleep(after / 2)
					n.Suspend()
					n.Resume()
				}
				time.Sleep(10 * time.Second)
				if err := n.Ready(t.Context()); err != nil || n.Firewalled() || n.Ephemeral() != (mode == Auto) {
					t.Errorf("suspended after %v: %v, ephemeral %v, firewalled %v", after, err, n.Ephemeral(), n.Firewalled())
				}
				got := slices.DeleteFunc(kinds(events()), func(k EventKind) bool { return k != EventReady })
				if len(got) != 1 {
					t.Errorf("suspended after %v: ready %d times", after, len(got))
				}
				n.Close()
			}
			n, err := Listen(Config{Network: tn.net.Host(), Bootstrap: []string{tn.addr().String()}})
			if err != nil {
				t.Fatal(err)
			}
			n.Suspend()
			go func() { time.Sleep(time.Second); n.Close() }()
			if err := n.Ready(t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("ready, though closed while suspended: %v", err)
			}
		})
	}
}

// A bind that fails leaves the node suspended, and can be tried again.
func TestResumeCanBeRetried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := vnet.New(1)
		defer net.Close()
		h := net.Host()
		n, err := Listen(Config{Network: h, Port: 5000, ExactPort: true})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		n.Suspend()
		squatter, err := h.Listen(netip.MustParseAddrPort("0.0.0.0:5000"))
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Resume(); err == nil || !n.Suspended() {
			t.Errorf("resumed on a taken port: %v", err)
		}
		squatter.Close()
		if err := n.Resume(); err != nil || n.Suspended() {
			t.Errorf("not resumed: %v", err)
		}
	})
}

func TestClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 5)
		n := tn.add(Config{})
		_, dead := tn.deaf()
		failed := make(chan error, 1)
		go func() {
			_, err := n.Request(t.Context(), dead, Message{Command: 1})
			failed <- err
		}()
		synctest.Wait()
		go n.Close()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if err := <-failed; !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), dead.String()) {
			t.Errorf("a request in flight: %v", err)
		}
		if _, err := n.Ping(t.Context(), tn.addr()); !errors.Is(err, ErrClosed) {
			t.Errorf("a request: %v", err)
		}
		if err := n.FindNode(ID{}, QueryOptions{}).Run(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("a query: %v", err)
		}
		if !n.Closed() || len(n.Nodes()) == 0 {
			t.Error("state of a closed node")
		}
		n.Refresh()
		n.AddNode(dead)
	})
}

// Resumed on another port, a node takes the id of its new address.
func TestResumeOnAnotherPort(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 10)
		h := tn.net.Host()
		n := tn.add(Config{Network: h, Ephemeral: Never})
		old := n.ServerConn().LocalAddr()
		n.Suspend()
		squatter, err := h.Listen(old)
		if err != nil {
			t.Fatal(err)
		}
		defer squatter.Close()
		if err := n.Resume(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		now := netip.AddrPortFrom(h.Addr(), n.ServerConn().LocalAddr().Port())
		if id, ok := n.ID(); !ok || id != IDOf(now) || now.Port() == old.Port() {
			t.Errorf("id %v %v, want that of %v", id, ok, now)
		}
	})
}

// Nothing of the old sockets goes on behind a suspension, so that nothing of it
// meddles with what Resume begins.
func TestSuspendEndsProcedures(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var running atomic.Int32
		n, err := Listen(Config{
			Network:   newTestNet(t, 1).net.Host(),
			Bootstrap: []string{"bootstrap.example:49737"},
			Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
				running.Add(1)
				defer running.Add(-1)
				<-ctx.Done()
				time.Sleep(time.Second) // slow to hear of it
				return nil, context.Cause(ctx)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		for range 3 {
			time.Sleep(10 * time.Millisecond)
			if running.Load() != 1 {
				t.Fatalf("%d resolvers run", running.Load())
			}
			n.Suspend()
			if running.Load() != 0 {
				t.Error("suspended, but a procedure goes on")
			}
			n.Resume()
		}
	})
}

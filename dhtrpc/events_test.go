package dhtrpc

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// kinds returns the kinds of a stream's events so far, without those about
// single nodes.
func kinds(events []Event) (list []EventKind) {
	for _, e := range events {
		if e.Kind != EventNodeAdded && e.Kind != EventNodeRemoved {
			list = append(list, e.Kind)
		}
	}
	return list
}

// record collects a node's events until it is closed or the context ends.
func record(ctx context.Context, n *Node) (events func() []Event) {
	var list []Event
	seq := n.Events(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range seq {
			list = append(list, e)
		}
	}()
	return func() []Event { synctest.Wait(); return list }
}

// Losing an interface and finding a new one is told, while somebody listens.
func TestNetworkChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		h := tn.net.Host()
		n := tn.add(Config{Network: h})
		events := record(t.Context(), n)
		h.SetUp(false)
		time.Sleep(6 * time.Second)
		got := kinds(events())
		if !slices.Contains(got, EventNetworkChange) || !slices.Contains(got, EventNetworkUpdate) {
			t.Errorf("events %v", got)
		}
	})
}

// Events end with the context, and a reader that never reads holds up nobody.
func TestEventStreamEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		n := tn.add(Config{})
		ctx, cancel := context.WithCancel(t.Context())
		n.Events(ctx) // never read
		for e := range n.Events(ctx) {
			if e.Kind == EventListening {
				break
			}
		}
		go func() { time.Sleep(time.Second); cancel() }()
		last := EventKind(0)
		for e := range n.Events(ctx) {
			last = e.Kind
		}
		if last != EventReady {
			t.Errorf("last event %v", last)
		}
		synctest.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.subscribers) != 0 || n.unwatch != nil {
			t.Errorf("%d readers left", len(n.subscribers))
		}
	})
}

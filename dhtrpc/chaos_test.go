package dhtrpc

import (
	"context"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// Everything that a node can do, done by several at once, with suspensions in
// between, ends; afterwards the node works, or is closed.
func TestEverythingAtOnce(t *testing.T) {
	for seed := range uint64(4) {
		bubble(t, func(t *testing.T) {
			tn := newTestNet(t, 8)
			n := tn.add(Config{Ephemeral: Never, Handler: HandlerFunc(func(r *Request) bool {
				p := r.Detach()
				go func() {
					time.Sleep(500 * time.Millisecond)
					p.Knows(tn.addr())
					p.Reply(p.Value)
				}()
				return true
			})})
			_, dead := tn.deaf()
			end := time.Now().Add(2 * time.Minute)
			var users sync.WaitGroup
			for user := range uint64(6) {
				users.Go(func() {
					r := rand.New(rand.NewPCG(seed, user))
					for time.Now().Before(end) {
						tn.useSomehow(n, dead, r)
						time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
					}
				})
			}
			closed := seed%2 == 0
			if closed {
				time.Sleep(time.Minute)
				n.Close()
			}
			users.Wait()
			n.Resume()
			if err := n.Ready(t.Context()); err != nil && !closed {
				t.Errorf("not ready: %v", err)
			}
			time.Sleep(10 * time.Second)
			if s := n.Stats(); s.Queries.Active != 0 || closed && s.Requests.Active != 0 {
				t.Errorf("left over: %+v", s)
			}
			if _, err := tn.first.Ping(t.Context(), n.LocalAddr()); (err != nil) != closed {
				t.Errorf("closed %v, ping: %v", closed, err)
			}
		})
	}
}

// useSomehow does one thing with a node, for at most three seconds.
func (tn *testNet) useSomehow(n *Node, dead netip.AddrPort, r *rand.Rand) {
	ctx, cancel := context.WithTimeout(tn.t.Context(), time.Duration(r.IntN(3000))*time.Millisecond)
	defer cancel()
	other := tn.nodes[r.IntN(8)]
	target := ID{byte(r.IntN(256))}
	m := Message{Command: 1, Target: &target, Value: []byte("x")}
	switch r.IntN(11) {
	case 0:
		n.Ping(ctx, dead)
	case 1:
		n.Request(ctx, other.PublicAddr(), m)
	case 2:
		other.Request(ctx, n.LocalAddr(), m)
	case 3:
		left := r.IntN(20)
		for range n.Query(m, QueryOptions{Commit: true}).Replies(ctx) {
			if left--; left < 0 {
				break
			}
			time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		}
	case 4:
		n.FindNode(target, QueryOptions{CommitFunc: func(ctx context.Context, _ Reply) error {
			<-ctx.Done()
			return ctx.Err()
		}}).Run(ctx)
	case 5:
		n.Suspend()
	case 6, 7:
		n.Resume()
	case 8:
		s := n.NewSession()
		soon := time.Duration(r.IntN(500)) * time.Millisecond
		go func() {
			time.Sleep(soon)
			s.Close(nil)
		}()
		n.FindNode(target, QueryOptions{Session: s, Nodes: []netip.AddrPort{dead}}).Run(ctx)
	case 9:
		for range n.Events(ctx) {
			n.Refresh()
		}
	case 10:
		n.AddNode(dead)
		n.SaveNodes(io.Discard)
		n.RemoteAddr()
		n.DelayedPing(ctx, other.PublicAddr(), time.Second)
	}
}

//go:build !race

package mainline

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestChurn: in a network of 1,000 nodes of which 10 % leave and as many join
// each minute, over 99 % of the lookups within five minutes of an announce find
// the peer.
// (Not with the race detector, whose own clocks run out in so many steps: it ends
// the process with "CHECK failed: tsan_rtl.cpp".)
func TestChurn(t *testing.T) {
	if testing.Short() {
		t.Skip("a thousand nodes")
	}
	synctest.Test(t, func(t *testing.T) {
		const (
			size      = 1000
			announces = 100
			step      = 6 * time.Second // in which 1 % of the nodes change
			steps     = int(5 * time.Minute / step)
			lookups   = 40 // a step
			stay      = 5  // bootstrap nodes, which do not leave
		)
		tn := newTestnet(t, size)
		defer func() { tn.close() }()
		rnd := rand.New(rand.NewPCG(1, 1))
		tn.boot = nil
		for _, n := range tn.nodes[:stay] {
			tn.boot = append(tn.boot, n.Addr().String())
		}
		for i := range announces {
			st, err := tn.nodes[rnd.IntN(size)].Announce(t.Context(), hashOf(fmt.Sprint(i)), AnnounceOptions{Port: 1})
			if err != nil || st.N() < K {
				t.Fatalf("announce: %+v, %v", st, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all sync.WaitGroup
		var asked, found, left, joined atomic.Int64
		for range steps {
			for range size / 100 { // without a word
				i := stay + rnd.IntN(len(tn.nodes)-stay)
				gone, last := tn.nodes[i], len(tn.nodes)-1
				tn.nodes[i] = tn.nodes[last]
				tn.nodes = tn.nodes[:last]
				left.Add(1)
				all.Go(func() { gone.Close() })
			}
			for range size / 100 {
				n, err := Listen(tn.config())
				if err != nil {
					t.Fatal(err)
				}
				tn.nodes = append(tn.nodes, n)
				all.Go(func() {
					if n.Ready(ctx) == nil {
						joined.Add(1)
					}
				})
			}
			for range lookups {
				n, hash := tn.nodes[rnd.IntN(len(tn.nodes)-size/10)], hashOf(fmt.Sprint(rnd.IntN(announces)))
				all.Go(func() {
					l := n.Lookup(hash)
					ok := false
					for range l.Peers(ctx) {
						ok = true
						break
					}
					switch {
					case ok:
						asked.Add(1)
						found.Add(1)
					case l.Err() == nil: // not one of a node that left meanwhile
						asked.Add(1)
					}
				})
			}
			time.Sleep(step)
		}
		cancel()
		all.Wait()
		t.Logf("%d of %d lookups found the peer; %d nodes left, %d joined", found.Load(), asked.Load(), left.Load(), joined.Load())
		if asked.Load() < int64(steps*lookups*9/10) || found.Load()*1000 < asked.Load()*990 {
			t.Errorf("%d of %d lookups found the peer", found.Load(), asked.Load())
		}
	})
}

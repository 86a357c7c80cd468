package dhtrpc

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/warren-dht/warren/kad"
	"github.com/warren-dht/warren/vnet"
)

// grow adds so many persistent nodes, some at once, each with a few others as
// bootstrap nodes.
func (tn *testNet) grow(size int) {
	tn.t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 20)
	for range size {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			h := tn.net.Host()
			if tn.link != nil {
				h.SetLink(tn.link())
			}
			n, err := Listen(Config{Network: h, Ephemeral: Never, Bootstrap: []string{tn.addr().String()}})
			if err != nil {
				tn.t.Error(err)
				return
			}
			if err := n.Ready(tn.t.Context()); err != nil {
				tn.t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			tn.nodes = append(tn.nodes, n)
			tn.born[n] = time.Now()
		})
	}
	wg.Wait()
}

// search looks for a random target from a random node and returns how many of
// the closest nodes should have been found, and how many of them were.
func (tn *testNet) search(r *rand.Rand) (want, found int) {
	tn.t.Helper()
	node := tn.nodes[r.IntN(len(tn.nodes))]
	var target ID
	for i := range target {
		target[i] = byte(r.Uint32())
	}
	began := time.Now()
	q := node.FindNode(target, QueryOptions{})
	if err := q.Run(tn.t.Context()); err != nil {
		tn.t.Error(err)
		return 0, 0
	}
	if d := time.Since(began); d > 30*time.Second {
		tn.t.Errorf("a search took %v", d)
	}
	type member struct {
		id  ID
		old bool
	}
	var alive []member
	for _, n := range tn.nodes {
		if id, ok := n.ID(); ok && n != node {
			alive = append(alive, member{id, began.Sub(tn.born[n]) >= time.Minute})
		}
	}
	slices.SortFunc(alive, func(a, b member) int { return kad.Compare(target, a.id, b.id) })
	got := q.Closest()
	for _, m := range alive[:K] {
		if !m.old {
			continue
		}
		want++
		if slices.ContainsFunc(got, func(c Contact) bool { return c.ID == m.id }) {
			found++
		}
	}
	return want, found
}

// In a network of 500 nodes that nobody leaves, searches find all of the truly
// closest 20.
func TestRecall(t *testing.T) {
	size, searches := 500, 1000
	if testing.Short() || raceEnabled {
		size, searches = 100, 100
	}
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		tn.grow(size - 1)
		persistent := 0
		for _, n := range tn.nodes {
			if !n.Ephemeral() {
				persistent++
			}
		}
		if persistent != size {
			t.Errorf("%d of %d nodes are persistent", persistent, size)
		}
		time.Sleep(2 * time.Minute)
		r := rand.New(rand.NewPCG(5, 6))
		perfect := 0
		for range searches {
			if want, found := tn.search(r); want == K && found == K {
				perfect++
			}
		}
		t.Logf("%d of %d searches found all of the closest 20", perfect, searches)
		if 100*perfect < 99*searches {
			t.Errorf("%d of %d searches found all of the closest 20", perfect, searches)
		}
	})
}

// While a tenth of the nodes leaves every minute, without a word, and as many
// join, searches find over 99 % of what they should.
func TestRecallUnderChurn(t *testing.T) {
	size, minutes := 500, 10
	if testing.Short() || raceEnabled {
		size, minutes = 100, 4
	}
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		tn.grow(size - 1)
		time.Sleep(2 * time.Minute)
		r := rand.New(rand.NewPCG(7, 8))
		want, found := 0, 0
		for range minutes {
			const steps = 10
			for range steps {
				for range size / 10 / steps {
					i := 1 + r.IntN(len(tn.nodes)-1) // the bootstrapper stays
					tn.nodes[i].Close()
					tn.nodes = slices.Delete(tn.nodes, i, i+1)
				}
				joined := make(chan struct{})
				go func() { tn.grow(size / 10 / steps); close(joined) }()
				time.Sleep(time.Minute / steps)
				<-joined
				for range 5 {
					w, f := tn.search(r)
					want += w
					found += f
				}
			}
		}
		t.Logf("%d of %d (%.2f %%)", found, want, 100*float64(found)/float64(want))
		if 100*found < 99*want {
			t.Errorf("found %d of %d", found, want)
		}
	})
}

// Near and far nodes, and 4 % of all requests or answers lost: visits are
// repeated before the walk has ended without them.
func TestRecallOnUnequalLinks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		r := rand.New(rand.NewPCG(9, 10))
		var mu sync.Mutex
		tn.link = func() vnet.Link {
			mu.Lock()
			defer mu.Unlock()
			return vnet.Link{Latency: time.Duration(1+r.IntN(10)*r.IntN(20)) * time.Millisecond, Loss: 0.01, Hops: 4}
		}
		tn.grow(150)
		time.Sleep(2 * time.Minute)
		want, found := 0, 0
		for range 200 {
			w, f := tn.search(r)
			want += w
			found += f
		}
		t.Logf("%d of %d (%.2f %%)", found, want, 100*float64(found)/float64(want))
		if 100*found < 97*want {
			t.Errorf("found %d of %d", found, want)
		}
	})
}

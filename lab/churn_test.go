//go:build !race

package lab

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/vnet"
)

// go test ./lab -run Churn -args -nodes 1000 -minutes 60
var (
	churnNodes   = flag.Int("nodes", 200, "nodes of the network that churns")
	churnMinutes = flag.Int("minutes", 30, "virtual minutes for which it does")
)

// In a network whose nodes come and go, without a word, servers stay findable:
// every minute three nodes in a hundred die and as many join, so that after half
// an hour two in three are others.
// (Not with the race detector, whose own clocks run out in so many steps: it ends
// the process with "CHECK failed: tsan_rtl.cpp".)
func TestChurn(t *testing.T) {
	inBubble(t, *churnNodes, func(w *world) {
		luck := rand.New(rand.NewPCG(1, uint64(*churnNodes)))
		forced, cancel := context.WithCancel(context.Background())
		cancel()
		var servers []*echo
		for i := range 10 {
			house := houses[i%len(houses)]
			if house.symmetric() {
				house = houses[0]
			}
			servers = append(servers, w.serve(w.join(house.host(w.Internet), house.cfg), hyperdht.ListenConfig{}))
		}
		var found []time.Duration
		failed := 0
		living := slices.Clone(w.Nodes[1:]) // the bootstrap node stays
		for range *churnMinutes {
			for range max(1, len(living)*3/100) {
				i := luck.IntN(len(living))
				living[i].Shutdown(forced)
				h := w.Internet.Host()
				n, err := hyperdht.New(w.Network.Config(hyperdht.Config{Network: h, Ephemeral: dhtrpc.Never, Firewalled: isFalse()}))
				if err != nil {
					w.t.Fatal(err)
				}
				defer n.Shutdown(forced)
				living[i] = n
				time.Sleep(time.Minute / time.Duration(max(1, len(living)*3/100)))
			}
			client := w.join(w.Internet.NAT(vnet.Cone).Host(), hyperdht.Config{})
			for _, l := range servers {
				c, took, err := w.dial(client, l.PublicKey())
				if err != nil {
					w.t.Log(err)
					failed++
					continue
				}
				found = append(found, took)
				c.Close()
			}
			client.Close()
		}
		slices.Sort(found)
		all := len(found) + failed
		w.t.Logf("%d of %d dials failed; the others took %v in the median, %v at most", failed, all, found[len(found)/2], found[len(found)-1])
		if failed*100 > all {
			w.t.Errorf("%d of %d dials failed", failed, all)
		}
		if m := found[len(found)/2]; m > time.Second {
			w.t.Errorf("in the median a dial took %v", m)
		}
	})
}

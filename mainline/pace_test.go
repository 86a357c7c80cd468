package mainline

import (
	"bytes"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/udp"
)

// TestManyWalksInASmallNetwork: a busy client slows down rather than pass over
// the nodes that it has asked much already, and sends no public address more
// than 44 queries in ten seconds (docs/spec/mainline.md §23.6).
func TestManyWalksInASmallNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 6)
		defer func() { tn.close() }()
		hash := hashOf("x")
		if _, err := tn.nodes[1].Announce(t.Context(), hash, AnnounceOptions{Port: 1}); err != nil {
			t.Fatal(err)
		}
		sent := make(map[netip.AddrPort][]time.Time)
		var mu sync.Mutex
		n := tn.add(func(c *Config) {
			c.Network = tap{c.Network, func(d udp.Datagram) {
				if bytes.HasSuffix(d.Payload, []byte("1:y1:qe")) {
					mu.Lock()
					sent[d.Peer] = append(sent[d.Peer], time.Now())
					mu.Unlock()
				}
			}}
		})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 10 {
					found := 0
					for range n.Lookup(hash).Peers(t.Context()) {
						found++
					}
					if found != 1 {
						t.Errorf("a lookup found %d peers", found)
					}
				}
			})
		}
		all.Wait()
		for a, times := range sent {
			for i := range times {
				j := i
				for j < len(times) && times[j].Sub(times[i]) < 10*time.Second {
					j++
				}
				if j-i > 44 {
					t.Errorf("%v got %d queries in ten seconds", a, j-i)
					break
				}
			}
		}
	})
}

// A tap is a network that shows what is sent.
type tap struct {
	udp.Network
	seen func(udp.Datagram)
}

func (n tap) Listen(a netip.AddrPort) (udp.Conn, error) {
	c, err := n.Network.Listen(a)
	return tapped{c, n.seen}, err
}

type tapped struct {
	udp.Conn
	seen func(udp.Datagram)
}

func (c tapped) WriteBatch(list []udp.Datagram) (int, error) {
	for _, d := range list {
		c.seen(d)
	}
	return c.Conn.WriteBatch(list)
}

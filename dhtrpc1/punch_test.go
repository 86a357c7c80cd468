package dhtrpc1

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/vnet"
)

// Two nodes behind NATs of their own reach each other through a node in the
// open that both have spoken to (docs/spec/dht-rpc-v2.md §8).
func TestHolepunchBehindNATs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 0)
		behind := func(ephemeral bool) *Node {
			host := n.NAT(vnet.Cone).Host()
			node := n.listen(Config{Network: host, Host: host.Addr(), Bootstrap: n.bootstrap(), Ephemeral: ephemeral})
			if err := node.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			return node
		}
		a, b := behind(true), behind(false) // b does not hear of a
		seen, err := b.Ping(t.Context(), n.boot.LocalAddr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Ping(t.Context(), seen.Observed); !errors.Is(err, ErrTimeout) {
			t.Fatalf("a ping got in without a punch: %v", err)
		}
		for range 2 {
			start := time.Now()
			p, err := a.Holepunch(t.Context(), seen.Observed, n.boot.LocalAddr())
			if err != nil || p.ID != b.ID() || p.Addr != seen.Observed {
				t.Fatalf("%+v, %v", p, err)
			}
			if d := time.Since(start); d > 200*time.Millisecond {
				t.Errorf("it took %v", d)
			}
		}
		if p, err := a.Ping(t.Context(), seen.Observed); err != nil || p.ID != b.ID() {
			t.Errorf("after the punch: %+v, %v", p, err)
		}
	})
}

// A query reaches nodes behind NATs through those that name them; with hole
// punching switched off it does not.
func TestQueryPunches(t *testing.T) {
	for _, off := range []bool{false, true} {
		bubble(map[bool]string{false: "on", true: "off"}[off], t, func(t *testing.T) {
			n := newTestNet(t, 6)
			var hidden []*Node
			for range 3 {
				host := n.NAT(vnet.Cone).Host()
				node := n.listen(Config{Network: host, Host: host.Addr(), Bootstrap: n.bootstrap(), Handler: valueStore()})
				if err := node.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
				hidden = append(hidden, node)
			}
			host := n.NAT(vnet.Cone).Host()
			client := n.listen(Config{Network: host, Host: host.Addr(), Bootstrap: n.bootstrap(), Ephemeral: true})
			got, err := Collect(client.Closest(t.Context(), Query{Command: "values", Target: ID{5}, NoHolepunch: off}))
			if err != nil {
				t.Fatal(err)
			}
			reached := 0
			for _, r := range got {
				for _, h := range hidden {
					if r.From.ID == h.ID() {
						reached++
					}
				}
			}
			if want := map[bool]int{false: 3, true: 0}[off]; reached != want || len(got) != 6+want {
				t.Errorf("%d replies, %d of them from behind NATs, want %d", len(got), reached, want)
			}
		})
	}
}

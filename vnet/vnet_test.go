package vnet

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/udp"
)

func TestLatencyInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		defer n.Close()
		a, b := n.Host(), n.Host()
		ca, err := a.Listen(netip.AddrPort{})
		if err != nil {
			t.Fatal(err)
		}
		cb, err := b.Listen(netip.AddrPortFrom(b.Addr(), 1000))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ca.WriteBatch([]udp.Datagram{{Payload: []byte("one"), Peer: cb.LocalAddr()}, {Payload: []byte("two"), Peer: cb.LocalAddr()}})
		var got []string
		batch := make([]udp.Datagram, 8)
		for len(got) < 2 { // they come at once, but perhaps not in one batch
			k, err := cb.ReadBatch(batch)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range batch[:k] {
				got = append(got, string(d.Payload))
			}
		}
		if !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("read %q", got)
		}
		if d := time.Since(start); d != 20*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		if want := netip.AddrPortFrom(a.Addr(), ca.LocalAddr().Port()); batch[0].Peer != want {
			t.Errorf("peer %v, want %v", batch[0].Peer, want)
		}
	})
}

func TestManyNodes(t *testing.T) {
	rounds := 400
	if raceEnabled || testing.Short() {
		rounds = 20
	}
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		var peers []netip.AddrPort
		var conns []udp.Conn
		for range 1000 {
			h := n.Host()
			c, err := h.Listen(netip.AddrPortFrom(h.Addr(), 49737))
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			peers = append(peers, c.LocalAddr())
		}
		for _, c := range conns {
			go udp.Serve(c, echo{})
		}
		for r := range rounds {
			for i, c := range conns {
				c.WriteBatch([]udp.Datagram{{Payload: []byte{1}, Peer: peers[(i*7+r)%1000]}})
			}
			time.Sleep(150 * time.Millisecond)
		}
		n.Close()
		if s := n.Stats(); s.Delivered != uint64(rounds)*2000 {
			t.Errorf("%+v", s)
		}
	})
}

type echo struct{}

func (echo) HandleBatch(c udp.Conn, in []udp.Datagram) []udp.Datagram {
	for i := range in {
		if in[i].Payload[0] == 1 {
			c.WriteBatch([]udp.Datagram{{Payload: []byte{2}, Peer: in[i].Peer}})
		}
	}
	return nil
}

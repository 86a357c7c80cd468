package vnet

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/udp"
)

func fired(c <-chan struct{}) bool {
	synctest.Wait()
	select {
	case _, ok := <-c:
		return ok
	default:
		return false
	}
}

func TestMoveAndWatch(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		h, o := n.Host(), n.Host()
		w, other := h.Watch(ctx), o.Watch(ctx)
		in, out := open(t, h, 5000), open(t, o, 1)
		bound, err := h.Listen(netip.AddrPortFrom(h.Addr(), 6000))
		if err != nil {
			t.Fatal(err)
		}
		if fired(w) {
			t.Error("Watch fired too early")
		}
		old := h.Addr()
		in.say("x", out.addr)
		out.want("before", "x from "+netip.AddrPortFrom(old, 5000).String())

		home := n.NAT(Cone)
		h.Move(home.Segment)
		if !fired(w) || fired(w) || fired(other) {
			t.Error("Watch did not fire just once, or for another host")
		}
		if h.Addr() == old {
			t.Error("the address stayed")
		}
		in.say("y", out.addr)
		out.want("after", "y from "+netip.AddrPortFrom(home.External(), 5000).String())
		out.say("lost", netip.AddrPortFrom(old, 5000))
		in.want("nobody has the old address")
		bound.WriteBatch([]udp.Datagram{{Payload: []byte("z"), Peer: out.addr}})
		settle()
		out.want("a socket bound to the old address")

		h.SetUp(false)
		h.SetUp(false)
		if !fired(w) || fired(w) {
			t.Error("Watch did not fire just once for down")
		}
		in.say("x", out.addr)
		out.want("down")
		if list, _ := h.Addrs(); len(list) != 2 {
			t.Errorf("Addrs of a host that is down: %v", list)
		}
		h.SetUp(true)
		if !fired(w) {
			t.Error("Watch did not fire for up")
		}
		in.say("x", out.addr)
		out.want("up", "x from "+netip.AddrPortFrom(home.External(), 5000).String())
		cancel()
		h.Move(n.Segment, addr("9.9.9.9"))
		synctest.Wait()
		if _, ok := <-w; ok {
			t.Error("Watch fired after the context's end")
		}
	})
}

// A queue that nobody reads is bounded.
func TestReceiveQueue(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		h := n.Host()
		c, err := h.Listen(netip.AddrPort{})
		if err != nil {
			t.Fatal(err)
		}
		out := open(t, n.Host(), 1)
		to := netip.AddrPortFrom(h.Addr(), c.LocalAddr().Port())
		for range 10000 {
			out.WriteBatch([]udp.Datagram{{Payload: make([]byte, 512), Peer: to}})
		}
		if s := n.Stats(); s.Delivered != receiveBuffer/1024 || s.Overflow != 10000-s.Delivered {
			t.Errorf("%+v", s)
		}
		batch := make([]udp.Datagram, 100)
		for range 5 {
			if k, err := c.ReadBatch(batch); k != 100 || err != nil {
				t.Fatal(k, err)
			}
		}
		for range 1000 {
			out.WriteBatch([]udp.Datagram{{Payload: make([]byte, 512), Peer: to}})
		}
		if s := n.Stats(); s.Delivered != receiveBuffer/1024+500 {
			t.Errorf("%+v", s)
		}
	})
}

// Payloads are spoiled when they are no longer lent.
func TestSpoiled(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		h := n.Host()
		c, err := h.Listen(netip.AddrPort{})
		if err != nil {
			t.Fatal(err)
		}
		c.WriteBatch([]udp.Datagram{{Payload: []byte("abc"), Peer: netip.AddrPortFrom(h.Addr(), c.LocalAddr().Port())}})
		batch := make([]udp.Datagram, 1)
		c.ReadBatch(batch)
		p := batch[0].Payload
		if string(p) != "abc" {
			t.Errorf("read %q", p)
		}
		c.ReadBatch(nil)
		if string(p) != "\xdb\xdb\xdb" {
			t.Errorf("kept %q", p)
		}
	})
}

// Close ends everything, whatever is under way.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		h, o := n.Host(), n.Host()
		in, out := open(t, h, 5000), open(t, o, 1)
		in.WriteBatch([]udp.Datagram{{Payload: []byte("x"), Peer: out.addr}})
		n.Close()
		n.Close()
		time.Sleep(time.Minute)
		out.want("closed under way")
		if _, err := h.Listen(netip.AddrPort{}); err == nil {
			t.Error("a closed network listens")
		}
	})
	// Not closed, with a datagram under way: no goroutine is left either.
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		in := open(t, n.Host(), 5000)
		in.WriteBatch([]udp.Datagram{{Payload: []byte("x"), Peer: netip.AddrPortFrom(n.Host().Addr(), 1)}})
		in.Close()
	})
}

func TestAddresses(t *testing.T) {
	n := New(1)
	seen := make(map[netip.Addr]bool)
	for range 30000 {
		a := n.Host().Addr()
		if seen[a] || a.IsPrivate() || !a.IsGlobalUnicast() {
			t.Fatalf("address %v", a)
		}
		seen[a] = true
	}
	defer func() {
		if recover() == nil {
			t.Error("an address was given twice")
		}
	}()
	n.Host(addr("20.0.0.1"))
}

func TestEphemeralPortsRunOut(t *testing.T) {
	n := New(1)
	h := n.Host()
	for range 65536 - firstEphemeral {
		if _, err := h.Listen(netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := h.Listen(netip.AddrPort{}); err == nil {
		t.Errorf("got %v", c.LocalAddr())
	}
}

func TestNoAllocations(t *testing.T) {
	n := New(1)
	n.SetLink(Link{})
	a, b := n.NAT(Cone).Host(), n.Host()
	a.SetLink(Link{})
	ca, err := a.Listen(netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	cb, err := b.Listen(netip.AddrPortFrom(b.Addr(), 1))
	if err != nil {
		t.Fatal(err)
	}
	out, in := []udp.Datagram{{Payload: make([]byte, 100), Peer: cb.LocalAddr()}}, make([]udp.Datagram, 1)
	allocs := testing.AllocsPerRun(1000, func() {
		ca.WriteBatch(out)
		if _, err := cb.ReadBatch(in); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 0.5 && !raceEnabled {
		t.Errorf("%v allocations a datagram", allocs)
	}
}

// Package udptest checks that an implementation of package udp keeps what its
// interfaces promise. It runs over this machine's sockets and over vnet, and
// over yours: it needs nothing but two networks that lose nothing.
package udptest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/warren-dht/warren/udp"
)

// Place is a host's network and an address of that host that the other host of
// a test can reach.
type Place struct {
	Network udp.Network
	Addr    netip.Addr
}

// Run checks the networks a and b, which may be the same. Datagrams between them
// must neither get lost nor change their order.
func Run(t *testing.T, a, b Place) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Place, Place)
	}{
		{"RoundTrip", roundTrip},
		{"Empty", empty},
		{"Order", order},
		{"SmallBatches", smallBatches},
		{"Borrowed", borrowed},
		{"SwallowedErrors", swallowedErrors},
		{"TTL", ttl},
		{"CloseWakesReader", closeWakesReader},
		{"CloseForgets", closeForgets},
		{"CloseForgetsTrain", closeForgetsTrain},
		{"Rebind", rebind},
		{"Wildcard", wildcard},
		{"Writers", writers},
		{"Addrs", addrs},
		{"Watch", watch},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, a, b) })
	}
}

// patience is how long a datagram that is expected may take.
const patience = 10 * time.Second

func listen(t *testing.T, p Place) udp.Conn {
	t.Helper()
	c, err := p.Network.Listen(netip.AddrPortFrom(p.Addr, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, c udp.Conn, batch ...udp.Datagram) {
	t.Helper()
	if n, err := c.WriteBatch(batch); n != len(batch) || err != nil {
		t.Fatalf("WriteBatch of %d = %d, %v", len(batch), n, err)
	}
}

// receive reads one batch of at most size datagrams, and closes the conn if that
// takes too long.
func receive(t *testing.T, c udp.Conn, size int) []udp.Datagram {
	t.Helper()
	late := time.AfterFunc(patience, func() { c.Close() })
	defer late.Stop()
	batch := make([]udp.Datagram, size)
	n, err := c.ReadBatch(batch)
	if err != nil {
		t.Fatalf("ReadBatch: %v", err)
	}
	if n < 1 || n > size {
		t.Fatalf("ReadBatch of %d = %d", size, n)
	}
	return batch[:n]
}

// want reads one datagram.
func want(t *testing.T, c udp.Conn, payload string, from netip.AddrPort) {
	t.Helper()
	d := receive(t, c, 1)[0]
	if string(d.Payload) != payload || d.Peer != from || d.TTL != 0 {
		t.Fatalf("got %.40q from %v, TTL %d; want %.40q from %v, TTL 0", d.Payload, d.Peer, d.TTL, payload, from)
	}
}

func roundTrip(t *testing.T, a, b Place) {
	ca, cb := listen(t, a), listen(t, b)
	if l := ca.LocalAddr(); l.Addr() != a.Addr || l.Port() == 0 {
		t.Errorf("LocalAddr = %v, bound to port 0 of %v", l, a.Addr)
	}
	send(t, ca, udp.Datagram{Payload: []byte("ask"), Peer: cb.LocalAddr()})
	want(t, cb, "ask", ca.LocalAddr())
	send(t, cb, udp.Datagram{Payload: []byte("answer"), Peer: ca.LocalAddr()})
	want(t, ca, "answer", cb.LocalAddr())

	if !b.Addr.Is4() {
		return
	}
	mapped := netip.AddrPortFrom(netip.AddrFrom16(cb.LocalAddr().Addr().As16()), cb.LocalAddr().Port())
	send(t, ca, udp.Datagram{Payload: []byte("mapped"), Peer: mapped})
	want(t, cb, "mapped", ca.LocalAddr())
}

func empty(t *testing.T, a, b Place) {
	ca, cb := listen(t, a), listen(t, b)
	send(t, ca,
		udp.Datagram{Peer: cb.LocalAddr()},
		udp.Datagram{Payload: []byte{}, Peer: cb.LocalAddr()},
		udp.Datagram{Payload: []byte("x"), Peer: cb.LocalAddr()},
		udp.Datagram{Peer: cb.LocalAddr()})
	for _, s := range []string{"", "", "x", ""} {
		want(t, cb, s, ca.LocalAddr())
	}
	send(t, ca)
	if n, err := cb.ReadBatch(nil); n != 0 || err != nil {
		t.Errorf("ReadBatch of nothing = %d, %v", n, err)
	}
}

// order sends what is hard to put into trains: runs of equal size, a shorter and a
// longer end, two peers in turn, more than fits into one call.
func order(t *testing.T, a, b Place) {
	ca, cb, cc := listen(t, a), listen(t, b), listen(t, b)
	var batch []udp.Datagram
	var wantB, wantC []string
	for i := range 700 {
		size := 100
		switch {
		case i >= 600:
			size = 1400 // more than 65507 bytes in a run
		case i%37 == 36:
			size = 10 + i%50
		case i%41 == 40:
			size = 200 + i%50
		case i%97 == 96:
			size = 0
		}
		p := bytes.Repeat([]byte{byte(i)}, size)
		if size >= 4 {
			binary.BigEndian.PutUint32(p, uint32(i))
		}
		to := cb.LocalAddr()
		if i%101 > 90 {
			to = cc.LocalAddr()
			wantC = append(wantC, string(p))
		} else {
			wantB = append(wantB, string(p))
		}
		batch = append(batch, udp.Datagram{Payload: p, Peer: to})
	}
	send(t, ca, batch...)
	for i := 0; i < len(wantB); {
		for _, d := range receive(t, cb, 64) {
			if string(d.Payload) != wantB[i] || d.Peer != ca.LocalAddr() {
				t.Fatalf("datagram %d is %.20x… (%d bytes) from %v, want %.20x… (%d bytes)", i, d.Payload, len(d.Payload), d.Peer, wantB[i], len(wantB[i]))
			}
			i++
		}
	}
	for _, w := range wantC {
		want(t, cc, w, ca.LocalAddr())
	}
}

// smallBatches reads a train in pieces.
func smallBatches(t *testing.T, a, b Place) {
	ca, cb := listen(t, a), listen(t, b)
	var batch []udp.Datagram
	for i := range 50 {
		batch = append(batch, udp.Datagram{Payload: fmt.Appendf(nil, "%04d", i), Peer: cb.LocalAddr()})
	}
	send(t, ca, batch...)
	for i := 0; i < len(batch); {
		for _, d := range receive(t, cb, 1+i%7) {
			if string(d.Payload) != string(batch[i].Payload) {
				t.Fatalf("datagram %d is %q", i, d.Payload)
			}
			i++
		}
	}
}

// borrowed checks that what one ReadBatch returned stays until the next.
func borrowed(t *testing.T, a, b Place) {
	ca, cb := listen(t, a), listen(t, b)
	send(t, ca, udp.Datagram{Payload: []byte("first"), Peer: cb.LocalAddr()})
	d := receive(t, cb, 8)
	send(t, ca, udp.Datagram{Payload: []byte("second"), Peer: cb.LocalAddr()})
	send(t, cb, udp.Datagram{Payload: []byte("third"), Peer: ca.LocalAddr()})
	want(t, ca, "third", cb.LocalAddr())
	if string(d[0].Payload) != "first" {
		t.Errorf("the payload became %q", d[0].Payload)
	}
	if p := append(d[0].Payload, '!'); string(p) != "first!" {
		t.Errorf("append gave %q", p)
	}
	want(t, cb, "second", ca.LocalAddr())

	// Nor does the conn look at what it has sent.
	p := []byte("fourth")
	send(t, ca, udp.Datagram{Payload: p, Peer: cb.LocalAddr()})
	clear(p)
	want(t, cb, "fourth", ca.LocalAddr())
}

// swallowedErrors sends what cannot arrive: neither the call nor a later read or
// write may speak of it, and what is around it arrives.
func swallowedErrors(t *testing.T, a, b Place) {
	ca, cb := listen(t, a), listen(t, b)
	closed := listen(t, b)
	closed.Close()
	other := netip.MustParseAddrPort("[2001:db8::1]:1000")
	if !a.Addr.Is4() {
		other = netip.MustParseAddrPort("192.0.2.1:1000")
	}
	big := make([]byte, 65535)
	for _, lost := range []udp.Datagram{
		{Payload: []byte("nobody"), Peer: closed.LocalAddr()},
		{Payload: []byte("other family"), Peer: other},
		{Payload: []byte("port 0"), Peer: netip.AddrPortFrom(b.Addr, 0)},
		{Payload: []byte("no address")},
		{Payload: big, Peer: cb.LocalAddr()},
	} {
		send(t, ca, lost)
		send(t, ca, lost, lost)
		send(t, ca,
			lost,
			udp.Datagram{Payload: []byte("good"), Peer: cb.LocalAddr()},
			lost, lost,
			udp.Datagram{Payload: []byte("better"), Peer: cb.LocalAddr()},
			lost)
		want(t, cb, "good", ca.LocalAddr())
		want(t, cb, "better", ca.LocalAddr())
	}
	send(t, cb, udp.Datagram{Payload: []byte("still here"), Peer: ca.LocalAddr()})
	want(t, ca, "still here", cb.LocalAddr())
}

func ttl(t *testing.T, a, b Place) {
	ca, cb := listen(t, a), listen(t, b)
	send(t, ca,
		udp.Datagram{Payload: []byte("1"), Peer: cb.LocalAddr(), TTL: 255},
		udp.Datagram{Payload: []byte("2"), Peer: cb.LocalAddr(), TTL: 255},
		udp.Datagram{Payload: []byte("3"), Peer: cb.LocalAddr()},
		udp.Datagram{Payload: []byte("4"), Peer: cb.LocalAddr(), TTL: 64})
	send(t, ca, udp.Datagram{Payload: []byte("5"), Peer: cb.LocalAddr(), TTL: 65})
	for i := range 5 {
		want(t, cb, fmt.Sprint(i+1), ca.LocalAddr())
	}
}

func closeWakesReader(t *testing.T, a, _ Place) {
	c := listen(t, a)
	got := make(chan error)
	go func() {
		_, err := c.ReadBatch(make([]udp.Datagram, 1))
		got <- err
	}()
	c.Close()
	select {
	case err := <-got:
		if err != net.ErrClosed {
			t.Errorf("ReadBatch: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Close did not wake the reader")
	}
}

func closeForgets(t *testing.T, a, b Place) {
	ca, cb := listen(t, a), listen(t, b)
	send(t, ca, udp.Datagram{Payload: []byte("x"), Peer: cb.LocalAddr()})
	for range 2 {
		if err := cb.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if n, err := cb.ReadBatch(make([]udp.Datagram, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("ReadBatch = %d, %v", n, err)
	}
	for _, d := range [][]udp.Datagram{
		{{Payload: []byte("x"), Peer: ca.LocalAddr()}},
		{{Payload: []byte("x"), Peer: ca.LocalAddr()}, {Payload: []byte("y"), Peer: ca.LocalAddr()}},
	} {
		if n, err := cb.WriteBatch(d); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("WriteBatch = %d, %v", n, err)
		}
	}
	if cb.LocalAddr().Addr() != b.Addr {
		t.Errorf("LocalAddr = %v", cb.LocalAddr())
	}
}

// closeForgetsTrain closes between the two halves of what came at once.
func closeForgetsTrain(t *testing.T, a, b Place) {
	ca, cb := listen(t, a), listen(t, b)
	d := udp.Datagram{Payload: []byte("x"), Peer: cb.LocalAddr()}
	send(t, ca, d, d, d, d)
	want(t, cb, "x", ca.LocalAddr())
	cb.Close()
	if n, err := cb.ReadBatch(make([]udp.Datagram, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("ReadBatch = %d, %v", n, err)
	}
}

func rebind(t *testing.T, a, _ Place) {
	c := listen(t, a)
	if d, err := a.Network.Listen(c.LocalAddr()); err == nil {
		d.Close()
		t.Error("a port was bound twice")
	}
	for range 20 {
		c.Close()
		d, err := a.Network.Listen(c.LocalAddr())
		if err != nil {
			t.Fatalf("a port is not free after Close: %v", err)
		}
		if d.LocalAddr() != c.LocalAddr() {
			t.Fatalf("LocalAddr = %v, want %v", d.LocalAddr(), c.LocalAddr())
		}
		c = d
	}
	c.Close()
}

// wildcard binds to all addresses.
func wildcard(t *testing.T, a, b Place) {
	any := netip.IPv4Unspecified()
	if !a.Addr.Is4() {
		any = netip.IPv6Unspecified()
	}
	ca := listen(t, a)
	cb, err := b.Network.Listen(netip.AddrPortFrom(any, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer cb.Close()
	if l := cb.LocalAddr(); l.Addr() != any || l.Port() == 0 {
		t.Errorf("LocalAddr = %v, bound to port 0 of %v", l, any)
	}
	at := netip.AddrPortFrom(b.Addr, cb.LocalAddr().Port())
	send(t, ca, udp.Datagram{Payload: []byte("ask"), Peer: at})
	want(t, cb, "ask", ca.LocalAddr())
	send(t, cb, udp.Datagram{Payload: []byte("answer"), Peer: ca.LocalAddr()})
	want(t, ca, "answer", at)

	c, err := a.Network.Listen(netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if l := c.LocalAddr(); l.Addr() != netip.IPv4Unspecified() {
		t.Errorf("the zero AddrPort is bound to %v", l)
	}
}

// writers write at the same time while the reader reads; each one's datagrams
// stay in order.
func writers(t *testing.T, a, b Place) {
	ca, cb := listen(t, a), listen(t, b)
	const n, each = 4, 100
	var all sync.WaitGroup
	for w := range n {
		all.Go(func() {
			for i := 0; i < each; i += 2 {
				ca.WriteBatch([]udp.Datagram{
					{Payload: []byte{byte(w), byte(i)}, Peer: cb.LocalAddr()},
					{Payload: []byte{byte(w), byte(i + 1)}, Peer: cb.LocalAddr()},
				})
			}
		})
	}
	next := [n]byte{}
	for got := 0; got < n*each; {
		for _, d := range receive(t, cb, 64) {
			if w := d.Payload[0]; d.Payload[1] != next[w] {
				t.Fatalf("writer %d: datagram %d, want %d", w, d.Payload[1], next[w])
			} else {
				next[w]++
			}
			got++
		}
	}
	all.Wait()
}

func addrs(t *testing.T, a, b Place) {
	for _, p := range []Place{a, b} {
		list, err := p.Network.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(list, netip.Addr.IsLoopback) {
			t.Errorf("Addrs has no loopback address: %v", list)
		}
		if !slices.Contains(list, p.Addr) {
			t.Errorf("Addrs has no %v: %v", p.Addr, list)
		}
		for _, x := range list {
			if x.Is4In6() || x.IsMulticast() || !x.IsValid() {
				t.Errorf("Addrs has %v", x)
			}
		}
	}
}

func watch(t *testing.T, a, _ Place) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, d := a.Network.Watch(ctx), a.Network.Watch(ctx)
	if c == d {
		t.Error("two callers have the same channel")
	}
	cancel()
	late := time.After(patience)
	for _, c := range []<-chan struct{}{c, d} {
		for open := true; open; {
			select {
			case _, open = <-c:
			case <-late:
				t.Fatal("the channel is open after the context's end")
			}
		}
	}
}

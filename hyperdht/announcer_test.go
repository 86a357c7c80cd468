package hyperdht

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/udp"
)

// A fickleNAT is a network behind a NAT whose mappings change when remap is
// called, without the machine behind noticing.
type fickleNAT struct {
	udp.Network
	mu    sync.Mutex
	conns []*fickleConn
}

func (f *fickleNAT) Listen(addr netip.AddrPort) (udp.Conn, error) {
	c, err := f.Network.Listen(addr)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fc := &fickleConn{network: f.Network, local: c.LocalAddr(), outer: c}
	f.conns = append(f.conns, fc)
	return fc, nil
}

func (f *fickleNAT) remap(t *testing.T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		outer, err := f.Network.Listen(netip.AddrPortFrom(c.local.Addr(), 0))
		if err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		old := c.outer
		c.outer = outer
		c.mu.Unlock()
		old.Close()
	}
}

type fickleConn struct {
	network udp.Network
	local   netip.AddrPort
	mu      sync.Mutex
	outer   udp.Conn
}

func (c *fickleConn) now() udp.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outer
}

func (c *fickleConn) ReadBatch(b []udp.Datagram) (int, error) {
	for {
		outer := c.now()
		n, err := outer.ReadBatch(b)
		if err == nil || c.now() == outer {
			return n, err
		}
	}
}

func (c *fickleConn) WriteBatch(b []udp.Datagram) (int, error) {
	n, err := c.now().WriteBatch(b)
	if err == net.ErrClosed {
		return c.now().WriteBatch(b)
	}
	return n, err
}

func (c *fickleConn) LocalAddr() netip.AddrPort { return c.local }
func (c *fickleConn) Close() error              { return c.now().Close() }

// finds reports whether FindPeer from a node finds the key.
func (tn *recordsNet) finds(n *Node, key PublicKey) bool {
	tn.Helper()
	for _, err := range n.FindPeer(tn.Context(), key) {
		tn.must("find peer", err)
		return true
	}
	return false
}

// forwards are the addresses to which the nodes of the network forward what is
// for a key.
func (tn *recordsNet) forwards(key PublicKey) (to []netip.AddrPort) {
	for _, n := range tn.nodes {
		n.rpc.Do(func() {
			if way, _, ok := n.records.routes.forwards.Get(time.Now(), TargetOf(key)); ok {
				to = append(to, way.addr())
			}
		})
	}
	return to
}

func relaysOf(a *announcer) (out []netip.AddrPort) {
	for _, i := range a.relayInfos() {
		out = append(out, i.relay)
	}
	return out
}

func startAnnouncer(ctx context.Context, a *announcer) error {
	a.resume()
	return a.first(ctx)
}

func TestAnnouncer(t *testing.T) {
	inNet(t, 30, func(tn *recordsNet) {
		ctx := tn.Context()
		server := tn.add(nil, nil, dhtrpc.Always)
		client := tn.add(nil, nil, dhtrpc.Always)
		k := KeyPairFromSeed([32]byte{5})
		a := newAnnouncer(server, k)
		tn.must("start", startAnnouncer(ctx, a))
		defer a.stop(ctx)
		relays := relaysOf(a)
		if open := a.Relays(); len(open) != maxRelays || open[0] != server.rpc.PublicAddr() || open[1] != relays[0] {
			tn.Errorf("an open node's own address comes first: %v", open)
		}
		if len(relays) != 3 || len(tn.forwards(k.Public)) != 3 {
			tn.Fatalf("relays %v, forwarders %v", relays, tn.forwards(k.Public))
		}
		for _, i := range a.relayInfos() {
			if !a.isRelay(i.relay) || i.peer.Addr() != server.rpc.PublicAddr().Addr() {
				tn.Errorf("%+v", i)
			}
		}
		if !tn.finds(client, k.Public) {
			tn.Error("not found")
		}

		// A relay dies: within ten seconds there are three again.
		dead := slices.IndexFunc(tn.nodes, func(n *Node) bool { return n.rpc.PublicAddr() == relays[0] })
		tn.nodes[dead].rpc.Close()
		time.Sleep(10 * time.Second)
		if now := relaysOf(a); len(now) != 3 || slices.Contains(now, relays[0]) {
			tn.Errorf("relays %v after %v died", now, relays[0])
		}
		if !a.isRelay(relays[0]) {
			tn.Error("a relay of the round before is not recognised")
		}

		// The announcement outlives its age.
		before := a.stats().Rounds
		time.Sleep(time.Hour)
		if !tn.finds(client, k.Public) {
			tn.Error("not found after an hour")
		}
		if n := a.stats().Rounds - before; n < 11 || n > 13 {
			tn.Errorf("%d rounds in an hour", n)
		}

		// It is taken back.
		a.stop(ctx)
		if to := tn.forwards(k.Public); len(to) != 0 {
			tn.Errorf("%v forward still", to)
		}
		if tn.finds(client, k.Public) {
			tn.Error("found after stop")
		}
		a.resume()
		time.Sleep(5 * time.Second)
		if !tn.finds(client, k.Public) {
			tn.Error("not found after resume")
		}
	})
}

// Whenever it is stopped, nobody forwards to it afterwards, not even nodes whose
// answer to the announcement was still on its way.
func TestAnnouncerStopsDuringARound(t *testing.T) {
	inNet(t, 30, func(tn *recordsNet) {
		server := tn.add(nil, nil, dhtrpc.Always)
		k := KeyPairFromSeed([32]byte{5})
		a := newAnnouncer(server, k)
		for after := time.Duration(0); after < 500*time.Millisecond; after += 5 * time.Millisecond {
			a.resume()
			time.Sleep(after)
			a.stop(tn.Context())
			time.Sleep(time.Second) // what is on its way arrives
			if left := tn.forwards(k.Public); len(left) != 0 {
				tn.Errorf("stopped after %v: %d nodes forward to it", after, len(left))
			}
		}
		if a.stats().Rounds < 50 {
			tn.Errorf("%+v", a.stats())
		}
	})
}

// A forced stop tells nobody and does not wait.
func TestAnnouncerForcedStop(t *testing.T) {
	inNet(t, 10, func(tn *recordsNet) {
		server := tn.add(nil, nil, dhtrpc.Always)
		k := KeyPairFromSeed([32]byte{5})
		a := newAnnouncer(server, k)
		tn.must("start", startAnnouncer(tn.Context(), a))
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		began := time.Now()
		a.stop(ended)
		if took := time.Since(began); took != 0 || len(tn.forwards(k.Public)) != 3 {
			tn.Errorf("took %v, %d forward", took, len(tn.forwards(k.Public)))
		}
		late := newAnnouncer(server, k)
		if err := startAnnouncer(ended, late); err == nil {
			tn.Error("start under a context that has ended")
		}
		late.stop(ended)
	})
}

// The issue: "An announced server is found again within ten seconds (virtual
// time) after its NAT mapping changes."
func TestAnnouncerHealsAStaleMapping(t *testing.T) {
	inNet(t, 30, func(tn *recordsNet) {
		nat := &fickleNAT{Network: tn.net.Host()}
		server := tn.addOn(nat, nil, dhtrpc.Always)
		k := KeyPairFromSeed([32]byte{5})
		a := newAnnouncer(server, k)
		tn.must("start", startAnnouncer(tn.Context(), a))
		defer a.stop(tn.Context())
		time.Sleep(time.Minute)
		old := tn.forwards(k.Public)
		if a.stats().Heals != 0 || len(old) != 3 {
			tn.Fatalf("%+v, forwards %v", a.stats(), old)
		}
		nat.remap(tn.T)
		time.Sleep(5 * time.Second)
		fresh := tn.forwards(k.Public)
		for _, to := range fresh {
			if slices.Contains(old, to) {
				tn.Errorf("forwards to %v still", to)
			}
		}
		for _, i := range a.relayInfos() {
			if !slices.Contains(fresh, i.peer) {
				tn.Errorf("tells peers %v", i)
			}
		}
		if s := a.stats(); s.Heals != 3 || s.Rounds != 1 || len(fresh) != 3 {
			tn.Errorf("%+v, forwards %v", s, fresh)
		}
	})
}

// Nobody answers for a while, then somebody does.
func TestAnnouncerWithoutANetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newRecordsNet(t, 5)
		h := tn.net.Host()
		server := tn.add(h, nil, dhtrpc.Always)
		h.SetUp(false)
		k := KeyPairFromSeed([32]byte{5})
		a := newAnnouncer(server, k)
		tn.must("listening although nobody hears", startAnnouncer(tn.Context(), a))
		defer a.stop(tn.Context())
		if len(relaysOf(a)) != 0 {
			tn.Error(relaysOf(a))
		}
		time.Sleep(10 * time.Minute)
		h.SetUp(true)
		time.Sleep(20 * time.Second)
		if len(relaysOf(a)) != 3 {
			tn.Errorf("%v relays, %+v", relaysOf(a), a.stats())
		}
	})
}

package mainline

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/udp"
)

// TestFamilyWithoutNodes: a socket of a family in which nobody answers tries
// again ever more rarely, although the other one has found its network.
func TestFamilyWithoutNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 20)
		defer func() { tn.close() }()
		n := tn.add(func(c *Config) {
			four, six := netip.MustParseAddr("20.77.0.1"), netip.MustParseAddr("2001:d00::1")
			c.Network = tn.inet.Host(four, six)
			c.Addrs = []netip.AddrPort{netip.AddrPortFrom(four, 6881), netip.AddrPortFrom(six, 6881)}
		})
		for range 3 {
			before := n.Stats().Sent
			time.Sleep(time.Hour)
			if sent := n.Stats().Sent - before; sent > 500 {
				t.Errorf("it sent %d queries in an hour", sent)
			}
		}
		if s := n.Stats().Sockets; s[0].Nodes < K || s[1].Nodes != 0 {
			t.Errorf("the tables: %+v", s)
		}
	})
}

// TestStrangersDoNotStopUpkeep: however many strangers send queries, there is
// room to find out which nodes of the table live.
func TestStrangersDoNotStopUpkeep(t *testing.T) {
	play(t, nil, func(s *stage) {
		a, b := s.actor(), s.actor()
		a.enter('A')
		b.enter('B')
		stop, _ := b.live('B')
		defer stop()
		ping := krpc(t, map[string]any{"a": withID(map[string]any{}), "q": "ping", "t": "aa", "y": "q"})
		out, sock := borrowOutbox(), s.node.sockets[0]
		spoof := func(from int) {
			d := udp.Datagram{Payload: ping, Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{60, byte(from >> 8), byte(from), 1}), 1)}
			s.node.mu.Lock()
			sock.receive(time.Now(), out, &d)
			s.node.mu.Unlock()
			out.flush(sock.conn)
		}
		go func() {
			time.Sleep(time.Second)
			for range s.node.Lookup(hashOf("x")).Peers(s.Context()) {
			}
		}()
		for i := range 1000 {
			spoof(i)
			time.Sleep(10 * time.Millisecond)
		}
		if got := s.node.Nodes(); len(got) != 1 || got[0].Addr != b.addr {
			t.Errorf("the table holds %v", got)
		}
	})
}

// TestSlowName: one name of the bootstrap list that nobody resolves does not
// hold up a node that has others, and one that comes late is used.
func TestSlowName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 3)
		defer func() { tn.close() }()
		start, late := time.Now(), tn.nodes[2].Addr()
		n := tn.add(func(c *Config) {
			c.Bootstrap = []string{tn.boot[0], "never.test:1", "late.test:6881"}
			c.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
				if host == "late.test" {
					time.Sleep(5 * time.Second)
					return []netip.Addr{late.Addr()}, nil
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}
		})
		if d := time.Since(start); d > 2*time.Second || len(n.Nodes()) != 3 {
			t.Errorf("ready after %v with %v", d, n.Nodes())
		}
		time.Sleep(10 * time.Second)
		n.mu.Lock()
		defer n.mu.Unlock()
		if got := n.routers[0]; len(got) != 2 || got[1] != late {
			t.Errorf("the bootstrap nodes: %v", got)
		}
	})
}

package mainline

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
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

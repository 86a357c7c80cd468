package vnet

import (
	"net/netip"
	"testing"

	"github.com/warren-dht/warren/udp/udptest"
)

func TestConformance(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		n := New(1)
		defer n.Close()
		n.SetLink(Link{})
		place := func(addr string) udptest.Place {
			a := netip.MustParseAddr(addr)
			return udptest.Place{Network: n.Host(a), Addr: a}
		}
		name, a, b := "IPv4", "198.51.100.1", "198.51.100.2"
		if v6 {
			name, a, b = "IPv6", "2001:db8::1:1", "2001:db8::1:2"
		}
		t.Run(name, func(t *testing.T) {
			p, q := place(a), place(b)
			udptest.Run(t, p, q)
			udptest.Run(t, p, p)
			p.Addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
			udptest.Run(t, p, p)
			p.Addr = netip.IPv6Loopback()
			udptest.Run(t, p, p)
		})
	}
}

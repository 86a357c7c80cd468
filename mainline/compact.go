package mainline

import (
	"encoding/binary"
	"net/netip"
)

// Compact encodings (BEP 5, BEP 32; docs/spec/mainline.md §4), big-endian:
//
//	peer  address (4 or 16) | port (2)
//	node  id (20) | address (4 or 16) | port (2)
const (
	peer4Size = 6
	peer6Size = 18
)

// appendAddr appends an address and its port.
func appendAddr(b []byte, a netip.AddrPort) []byte {
	if ip := a.Addr(); ip.Is4() {
		x := ip.As4()
		b = append(b, x[:]...)
	} else {
		x := ip.As16()
		b = append(b, x[:]...)
	}
	return binary.BigEndian.AppendUint16(b, a.Port())
}

// parseAddr reads an address and its port from 6 or 18 bytes. ok is false for
// another length. An IPv4-mapped address comes out as IPv4.
func parseAddr(b []byte) (a netip.AddrPort, ok bool) {
	if len(b) != peer4Size && len(b) != peer6Size {
		return a, false
	}
	ip, _ := netip.AddrFromSlice(b[:len(b)-2])
	return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(b[len(b)-2:])), true
}

// nextNode takes one node off a compact list; ok is false when no whole entry
// is left. What is less than an entry is ignored, as bittorrent-dht does.
func nextNode(b []byte, idLen, addrLen int) (c point, rest []byte, ok bool) {
	n := idLen + addrLen
	if len(b) < n {
		return c, nil, false
	}
	c.ID = toKey(b[:idLen])
	c.Addr, _ = parseAddr(b[idLen:n])
	return c, b[n:], true
}

// usable reports whether a datagram can be sent to the address at all: a
// unicast one with a port.
func usable(a netip.AddrPort) bool {
	ip := a.Addr()
	if !ip.IsValid() || a.Port() == 0 || ip.IsMulticast() || ip.IsUnspecified() {
		return false
	}
	if ip.Is4() {
		x := ip.As4()
		return x[0] != 0 && x[0] < 224
	}
	return !ip.Is4In6()
}

// routable reports whether a node at from may name the address: a public
// address always; loopback, link-local and private ones only if the node that
// names them has such an address itself, so that no stranger can point us at
// machines behind our own NAT.
func routable(a netip.AddrPort, from netip.Addr) bool {
	if !usable(a) {
		return false
	}
	return !private(a.Addr()) || private(from)
}

// private reports whether an address is exempt from BEP 42 and from all limits
// by subnet: loopback, link-local and private ranges.
func private(ip netip.Addr) bool {
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast()
}

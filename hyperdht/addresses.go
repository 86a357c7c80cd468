package hyperdht

import "net/netip"

// Address classes as the reference draws them (spec §8.3). A bogon is an
// address that means nothing on the public internet.
var (
	privateNets = prefixes("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")

	reservedNets = prefixes("0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4")
)

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func within(a netip.Addr, nets []netip.Prefix) bool {
	for _, p := range nets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func isPrivate(a netip.Addr) bool  { return within(a, privateNets) }
func isReserved(a netip.Addr) bool { return within(a, reservedNets) }
func isBogon(a netip.Addr) bool    { return isPrivate(a) || isReserved(a) }

// sendable reports whether a datagram to an address that somebody named may be
// sent at all: an IPv4 unicast address with a port.
func sendable(a netip.AddrPort) bool {
	if !a.Addr().Is4() || a.Port() == 0 {
		return false
	}
	first := a.Addr().As4()[0]
	return first != 0 && first < 224
}

// mayReach reports whether something that a stranger at from asked for may be
// sent to an address of the stranger's choosing: private addresses are for
// those who come from one, so that a public node is no way into the network
// behind it (spec §15).
func mayReach(from, to netip.AddrPort) bool {
	return sendable(to) && (!isBogon(to.Addr()) || isBogon(from.Addr()))
}

// matchLAN picks the address among theirs that most likely shares a network
// with one of mine, by the segments that they have in common (spec §8.2). ok is
// false if not even the first is.
func matchLAN(mine, theirs []netip.AddrPort) (best netip.AddrPort, ok bool) {
	segments := 0
	for _, m := range mine {
		for _, t := range theirs {
			switch n := commonSegments(m.Addr(), t.Addr()); {
			case n >= 3:
				return t, true
			case n > segments:
				best, segments = t, n
			}
		}
	}
	return best, segments > 0
}

func commonSegments(a, b netip.Addr) int {
	if !a.Is4() || !b.Is4() {
		return 0
	}
	x, y := a.As4(), b.As4()
	n := 0
	for n < 4 && x[n] == y[n] {
		n++
	}
	return n
}

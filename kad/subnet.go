package kad

import "net/netip"

// shared is 100.64.0.0/10, the address space of carrier-grade NATs (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// Subnet is the network that an address is counted under where contacts or
// requests are limited by network: a /24 of IPv4, a /48 of IPv6 (the most that
// one site is given, RFC 6177). ok is false for addresses that are not public (loopback,
// private, link-local, carrier-grade NAT), which are never limited, so that
// test and home networks work.
func Subnet(a netip.Addr) (subnet netip.Prefix, ok bool) {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() || shared.Contains(a) {
		return netip.Prefix{}, false
	}
	n := 24
	if a.Is6() {
		n = 48
	}
	subnet, err := a.Prefix(n)
	return subnet, err == nil
}

package mainline

import (
	"net/netip"
	"slices"
)

// Tuning of ours: how many voices are remembered, and how many from different
// networks have to agree.
const (
	maxVoices = 16
	quorum    = 5
)

// A ballot finds out a socket's public address from what the nodes that it
// asked say (BEP 42): the latest word of each of the last networks heard from.
// A network is a /16 of IPv4 or a /32 of IPv6, so that few can hold several
// voices. The zero value is ready. Guarded by the node's mutex.
type ballot struct {
	voices  []voice // oldest first
	elected netip.AddrPort
}

type voice struct {
	by    netip.Prefix
	names netip.AddrPort
}

// cast counts a voice and reports whether the elected address has changed.
func (b *ballot) cast(a netip.AddrPort, by netip.Addr) (changed bool) {
	n := 16
	if by.Is6() {
		n = 32
	}
	network, err := by.Prefix(n)
	if err != nil {
		return false
	}
	b.voices = slices.DeleteFunc(b.voices, func(v voice) bool { return v.by == network })
	if b.voices = append(b.voices, voice{network, a}); len(b.voices) > maxVoices {
		b.voices = slices.Delete(b.voices, 0, 1)
	}
	same, samePort := 0, 0
	for _, v := range b.voices {
		if v.names.Addr() == a.Addr() {
			same++
			if v.names.Port() == a.Port() {
				samePort++
			}
		}
	}
	if same < quorum || 2*same <= len(b.voices) {
		return false
	}
	port := uint16(0) // differs from node to node
	if 2*samePort > same {
		port = a.Port()
	}
	changed = b.elected.Addr() != a.Addr()
	b.elected = netip.AddrPortFrom(a.Addr(), port)
	return changed
}

package hyperdht

import "net/netip"

// maxPunchNonces bounds a punchMemory. An honest client sends some ten messages
// before it punches; those that are older than the newest 64 are told by their
// round.
const maxPunchNonces = 64

// A punchMemory holds the newest punch messages of a handshake, by their nonces,
// and where each came from. The payload of a message is sealed, but whoever has
// seen it pass can send it again, from an address that he forges. The zero value
// is ready.
type punchMemory struct {
	ring [][nonceSize]byte
	next int
	from map[[nonceSize]byte]netip.AddrPort
}

// note remembers a message. Fresh reports whether it is new; one that is not is a
// repetition if it comes from the same address, and may be answered again, else
// a replay.
func (m *punchMemory) note(nonce [nonceSize]byte, from netip.AddrPort) (fresh, replay bool) {
	if was, known := m.from[nonce]; known {
		return false, was != from
	}
	if m.from == nil {
		m.from = map[[nonceSize]byte]netip.AddrPort{}
	}
	if len(m.ring) < maxPunchNonces {
		m.ring = append(m.ring, nonce)
	} else {
		delete(m.from, m.ring[m.next])
		m.ring[m.next] = nonce
		m.next = (m.next + 1) % maxPunchNonces
	}
	m.from[nonce] = from
	return true, false
}

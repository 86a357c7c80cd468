package hyperdht

import "net/netip"

// maxPunchNonces bounds a punchMemory. An honest client sends some ten messages
// before it punches; those that are older than the newest 64 are told by their
// round.
const maxPunchNonces = 64

// A punchMemory holds the newest punch messages of a handshake, by their nonces.
// The payload of a message is sealed, but a node that has seen it pass can send it
// again, from an address that he forges. The zero value is ready.
type punchMemory struct {
	ring  [][nonceSize]byte
	next  int
	known map[[nonceSize]byte]*punchNote
}

// A punchNote is about one message.
type punchNote struct {
	from     netip.AddrPort // where a relay has seen it come from
	answered bool
}

// note remembers a message. One that is known is returned as it was noted.
func (m *punchMemory) note(nonce [nonceSize]byte, from netip.AddrPort) (n *punchNote, fresh bool) {
	if n = m.known[nonce]; n != nil {
		return n, false
	}
	if m.known == nil {
		m.known = map[[nonceSize]byte]*punchNote{}
	}
	if len(m.ring) < maxPunchNonces {
		m.ring = append(m.ring, nonce)
	} else {
		delete(m.known, m.ring[m.next])
		m.ring[m.next] = nonce
		m.next = (m.next + 1) % maxPunchNonces
	}
	n = &punchNote{from: from}
	m.known[nonce] = n
	return n, true
}

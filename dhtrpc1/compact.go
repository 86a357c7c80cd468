package dhtrpc1

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Sizes of compact addresses (docs/spec/dht-rpc-v2.md §4): a peer is an IPv4
// address and a port in big-endian order, a node is an id and a peer.
const (
	peerSize = 4 + 2
	nodeSize = idSize + peerSize
)

var errCompact = errors.New("dhtrpc1: malformed compact address")

// appendPeer appends a, which is an IPv4 address.
func appendPeer(b []byte, a netip.AddrPort) []byte {
	ip := a.Addr().As4()
	b = append(b, ip[:]...)
	return binary.BigEndian.AppendUint16(b, a.Port())
}

// parsePeer reads the first peer of a list; as for every compact list, an entry
// with port 0 makes the whole list void, and bytes left over are ignored.
func parsePeer(b []byte) (netip.AddrPort, error) {
	if len(b) < peerSize {
		return netip.AddrPort{}, errCompact
	}
	for i := 0; i+peerSize <= len(b); i += peerSize {
		if binary.BigEndian.Uint16(b[i+4:]) == 0 {
			return netip.AddrPort{}, errCompact
		}
	}
	return readPeer(b), nil
}

func readPeer(b []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint16(b[4:]))
}

// appendNodes appends the contacts as a compact list. It never returns nil: an
// empty list is a field that is present and empty.
func appendNodes(b []byte, contacts []Contact) []byte {
	if b == nil {
		b = make([]byte, 0, len(contacts)*nodeSize)
	}
	for _, c := range contacts {
		b = append(b, c.ID[:]...)
		b = appendPeer(b, c.Addr)
	}
	return b
}

// parseNodes reads a compact list. An entry with port 0 makes the whole list
// void; bytes left over are ignored. No honest peer lists more than K nodes:
// the rest is not looked at.
func parseNodes(b []byte) ([]Contact, error) {
	n := min(len(b)/nodeSize, K)
	contacts := make([]Contact, n)
	for i := range contacts {
		e := b[i*nodeSize:]
		contacts[i] = Contact{ID: ID(e), Addr: readPeer(e[idSize:])}
		if contacts[i].Addr.Port() == 0 {
			return nil, errCompact
		}
	}
	return contacts, nil
}

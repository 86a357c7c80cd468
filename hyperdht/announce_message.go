package hyperdht

import (
	"errors"
	"net/netip"

	"golang.org/x/crypto/blake2b"

	"github.com/warren-dht/warren/compact"
)

// An announcement, the value of ANNOUNCE and UNANNOUNCE, in compact-encoding.
// docs/spec/hyperdht-records.md §3 and §4.
//
//	peer record:     public key (32) | array of relay addresses (6 each)
//	announce:        flags | [1: peer record] | [2: refresh (32)] | [4: signature (64)] | [8: bump]
//	lookup reply:    count | peer records | bump
//
//	signed:          namespace (32) | H(target | node id | token | peer record | refresh)

const (
	announceHasPeer      = 1
	announceHasRefresh   = 2
	announceHasSignature = 4
	announceHasBump      = 8
)

// maxRelays is how many relay addresses of an announcement are kept.
const maxRelays = 3

// lookupReplyPeers is how many peers a node sends in a lookup reply at most.
const lookupReplyPeers = 20

var errBadMessage = errors.New("hyperdht: malformed message")

// packedAddrs are IPv4 addresses as they lie in a message, 6 bytes each.
type packedAddrs []byte

func packAddrs(as []netip.AddrPort) packedAddrs {
	b := make(packedAddrs, 0, len(as)*compact.AddrSize)
	for _, a := range as {
		b = compact.AppendAddr(b, a)
	}
	return b
}

func (p packedAddrs) len() int { return len(p) / compact.AddrSize }

// first returns at most n of the addresses.
func (p packedAddrs) first(n int) packedAddrs { return p[:min(n, p.len())*compact.AddrSize] }

// unpack returns the addresses that can be sent to.
func (p packedAddrs) unpack() []netip.AddrPort {
	if len(p) == 0 {
		return nil
	}
	as := make([]netip.AddrPort, 0, p.len())
	for r := compact.NewReader(p); r.Len() > 0; {
		if a := r.Addr(); a.Port() != 0 && !a.Addr().IsUnspecified() {
			as = append(as, a)
		}
	}
	return as
}

// A peerRecord names a peer and the nodes that forward to it. When parsed its
// relays are borrowed.
type peerRecord struct {
	key    [32]byte
	relays packedAddrs
}

func (p peerRecord) append(b []byte) []byte {
	b = append(b, p.key[:]...)
	b = compact.AppendUint(b, uint64(p.relays.len()))
	return append(b, p.relays...)
}

// peer is the record as the application sees it.
func (p peerRecord) peer() Peer {
	return Peer{PublicKey: p.key, Relays: p.relays.unpack()}
}

func readPeerRecord(r *compact.Reader) (p peerRecord) {
	if key := r.Fixed32(); key != nil {
		p.key = *key
	}
	p.relays = r.Fixed(r.Count(compact.AddrSize) * compact.AddrSize)
	return p
}

func parsePeerRecord(b []byte) (peerRecord, error) {
	r := compact.NewReader(b)
	p := readPeerRecord(&r)
	return p, r.Err()
}

// An announcement is the value of ANNOUNCE and UNANNOUNCE. When parsed its
// fields are borrowed.
type announcement struct {
	peer      *peerRecord
	refresh   *[32]byte
	signature *[64]byte
	bump      uint64
}

func parseAnnouncement(b []byte) (a announcement, err error) {
	r := compact.NewReader(b)
	flags := r.Uint()
	if flags&announceHasPeer != 0 {
		p := readPeerRecord(&r)
		a.peer = &p
	}
	if flags&announceHasRefresh != 0 {
		a.refresh = r.Fixed32()
	}
	if flags&announceHasSignature != 0 {
		a.signature = r.Fixed64()
	}
	if flags&announceHasBump != 0 {
		a.bump = r.Uint()
	}
	return a, r.Err()
}

func (a announcement) append(b []byte) []byte {
	var flags uint64
	if a.peer != nil {
		flags |= announceHasPeer
	}
	if a.refresh != nil {
		flags |= announceHasRefresh
	}
	if a.signature != nil {
		flags |= announceHasSignature
	}
	if a.bump > 0 {
		flags |= announceHasBump
	}
	b = compact.AppendUint(b, flags)
	if a.peer != nil {
		b = a.peer.append(b)
	}
	if a.refresh != nil {
		b = append(b, a.refresh[:]...)
	}
	if a.signature != nil {
		b = append(b, a.signature[:]...)
	}
	if a.bump > 0 {
		b = compact.AppendUint(b, a.bump)
	}
	return b
}

// signable is what the peer signs: the announcement as made to one node, under
// the token that this node gave. The bump is not part of it.
func (a announcement) signable(ns, target, node, token *[32]byte) [64]byte {
	b := make([]byte, 0, 512)
	b = append(b, target[:]...)
	b = append(b, node[:]...)
	b = append(b, token[:]...)
	b = a.peer.append(b)
	if a.refresh != nil {
		b = append(b, a.refresh[:]...)
	}
	return underNamespace(ns, blake2b.Sum256(b))
}

// underNamespace is the message that is signed: a namespace and a digest.
func underNamespace(ns *[32]byte, digest [32]byte) (m [64]byte) {
	copy(m[:32], ns[:])
	copy(m[32:], digest[:])
	return m
}

// A lookupReply is the value of a LOOKUP's reply. When parsed its records are
// borrowed.
type lookupReply struct {
	records []peerRecord
	bump    uint64
}

// parseLookupReply reads a reply. Older nodes send no bump; it reads as 0.
func parseLookupReply(b []byte) (l lookupReply, err error) {
	r := compact.NewReader(b)
	n := r.Count(32 + 1)
	l.records = make([]peerRecord, 0, n)
	for range n {
		l.records = append(l.records, readPeerRecord(&r))
	}
	if r.Len() > 0 {
		l.bump = r.Uint()
	}
	return l, r.Err()
}

func (l lookupReply) append(b []byte) []byte {
	b = compact.AppendUint(b, uint64(len(l.records)))
	for i := range l.records {
		b = l.records[i].append(b)
	}
	return compact.AppendUint(b, l.bump)
}

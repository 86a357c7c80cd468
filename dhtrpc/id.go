package dhtrpc

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"sync/atomic"

	"golang.org/x/crypto/blake2b"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/kad"
)

// An ID is a node's position in the key space, or a target in it. A node's id
// is the hash of its public address (docs/spec/dht-rpc.md §2.1), so it can
// hold only the one position that its address gives it.
type ID [32]byte

// IDOf returns the id of the node at an IPv4 address: the BLAKE2b-256 hash of
// its six bytes on the wire. It panics if the address is not an IPv4 one. Safe
// for concurrent use.
func IDOf(a netip.AddrPort) ID {
	var b [8]byte
	compact.AppendAddr(b[:0], a)
	key := binary.LittleEndian.Uint64(b[:])
	slot := &knownIDs[key*0x9e3779b97f4a7c15>>(64-knownBits)]
	if k := slot.Load(); k != nil && k.key == key {
		return k.id
	}
	k := &knownID{key, blake2b.Sum256(b[:compact.AddrSize])}
	slot.Store(k)
	return k.id
}

// knownIDs remembers ids, since the same addresses are named again and again: a
// reply names twenty, and a hash costs as much as the rest of reading it. It
// holds nothing but sums, at most 4,096 of them, so all nodes share it.
var knownIDs [1 << knownBits]atomic.Pointer[knownID]

const knownBits = 12

type knownID struct {
	key uint64 // the address as its six bytes
	id  ID
}

// Hash returns the BLAKE2b-256 hash of data, which is how names and values
// become targets.
func Hash(data []byte) ID { return ID(blake2b.Sum256(data)) }

// String returns the id in hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// A Contact is a node as others name it: its id and its address. In the
// reference, a node.
type Contact = kad.Contact[ID]

// contactOf makes the contact of an address.
func contactOf(a netip.AddrPort) Contact { return Contact{ID: IDOf(a), Addr: a} }

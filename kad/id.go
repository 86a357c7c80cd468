// Package kad holds the values of Kademlia (Maymounkov and Mazières, 2002)
// that every DHT here shares: identifiers of 20 or 32 bytes under the XOR
// metric, a routing table of k-buckets, and the iterative lookup. They are
// plain values: no goroutine, lock, clock or socket, and whoever holds one
// guards it.
//
// Left out on purpose: how nodes are asked, which of them are trusted, and when
// a table is kept up. Each protocol says that in its own loop.
package kad

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// An ID is a position in the key space: a node's id or a lookup's target.
type ID interface{ ~[20]byte | ~[32]byte }

// A Contact is a node as others name it: its id and its UDP address. (In the
// reference implementations: a node.)
type Contact[T ID] struct {
	ID   T
	Addr netip.AddrPort
}

// Distance is the XOR of a and b. Read as a big-endian number it is their
// distance.
func Distance[T ID](a, b T) T {
	for i := range len(a) {
		a[i] ^= b[i]
	}
	return a
}

// Compare tells which of a and b is nearer to target: negative if a is,
// positive if b is, 0 if they are the same id.
func Compare[T ID](target, a, b T) int {
	for i := range len(target) {
		if x, y := a[i]^target[i], b[i]^target[i]; x != y {
			return int(x) - int(y)
		}
	}
	return 0
}

// Prefix is the number of leading bits that a and b share: 8 times their
// length if they are equal. It is the index of b's bucket in a table around a.
func Prefix[T ID](a, b T) int {
	for i := range len(a) {
		if x := a[i] ^ b[i]; x != 0 {
			return 8*i + bits.LeadingZeros8(x)
		}
	}
	return 8 * len(a)
}

// maxWords is the number of 64-bit words that hold the longest id.
const maxWords = 4

// words is the id as big-endian 64-bit words, the last one filled with zeros.
func words[T ID](id T) (w [maxWords]uint64) {
	for i := range len(id) {
		w[i/8] |= uint64(id[i]) << (56 - 8*(i%8))
	}
	return w
}

// head is the id's first 64 bits as a big-endian number.
func head[T ID](id T) uint64 {
	return binary.BigEndian.Uint64([]byte{id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]})
}

package mainline

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/warren-dht/warren/kad"
)

// An ID is a node's id, an info-hash or an item's target: 20 bytes, or as many
// as the node's custom hash gives (see [Config.Hash]). It is a comparable
// value; its zero value is no id.
type ID struct {
	key key
	n   uint8
}

// A key is an id as the routing table and the stores hold it. One of 20 bytes
// is filled with zeros, which changes no distance.
type key [32]byte

type (
	table  = kad.Table[key, entry]
	known  = kad.Node[key, entry] // a node in the table
	search = kad.Lookup[key]
	point  = kad.Contact[key] // a node as others name it
)

// The lengths that an id may have.
const (
	shortID = 20
	longID  = 32
)

var errIDLength = errors.New("mainline: an id has 20 or 32 bytes")

// FromHash returns the id that a SHA-1 sum is.
func FromHash(sum [20]byte) ID {
	id := ID{n: shortID}
	copy(id.key[:], sum[:])
	return id
}

// MakeID returns the id of 20 or 32 bytes.
func MakeID(b []byte) (ID, error) {
	if len(b) != shortID && len(b) != longID {
		return ID{}, errIDLength
	}
	id := ID{n: uint8(len(b))}
	copy(id.key[:], b)
	return id, nil
}

// ParseID reads an id in hex.
func ParseID(s string) (ID, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return ID{}, fmt.Errorf("mainline: id: %w", err)
	}
	return MakeID(b)
}

// Bytes returns a copy of the id's bytes, none for the zero value.
func (id ID) Bytes() []byte { return append([]byte(nil), id.key[:id.n]...) }

// String is the id in hex.
func (id ID) String() string { return hex.EncodeToString(id.key[:id.n]) }

// IsZero reports whether it is no id.
func (id ID) IsZero() bool { return id.n == 0 }

// MarshalText writes the id in hex.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the id in hex; an empty text is the zero value.
func (id *ID) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*id = ID{}
		return nil
	}
	*id, err = ParseID(string(b))
	return err
}

// Distance is the XOR of two ids of the same length.
func (id ID) Distance(other ID) ID {
	return ID{key: kad.Distance(id.key, other.key), n: id.n}
}

// toKey reads a key off the wire; the length is the network's.
func toKey(b []byte) (k key) {
	copy(k[:], b)
	return k
}

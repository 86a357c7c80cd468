// Package pb reads and writes the protobuf shapes of the first dht-rpc
// (docs/spec/dht-rpc-v2.md §3): messages of at most a handful of fields, all of
// them length-delimited (wire type 2) and none of them repeated.
//
//	key (varint)             length (varint)   bytes
//	+----------------------+------------------+----------------
//	| number << 3 | type=2 |        n         | n bytes        ...
//	+----------------------+------------------+----------------
//
// The reader is as lax as protocol-buffers 3.2 of npm, which every deployed
// peer uses. Left out on purpose: every other type, groups, packed and
// repeated fields, schemas.
package pb

import (
	"encoding/binary"
	"errors"
	"math"
)

// Wire types of the protobuf encoding. Types 3 and 4 (groups), 6 and 7 are
// errors.
const (
	typeVarint = 0
	type64     = 1
	typeBytes  = 2
	type32     = 5
)

// Errors about a message that cannot be decoded.
var (
	// ErrVarint means that a varint runs past the end of the message or has
	// more than 64 bits.
	ErrVarint = errors.New("pb: malformed varint")
	// ErrWireType means that an unknown field is a group or has no known type.
	ErrWireType = errors.New("pb: wire type of no known meaning")
)

// Append appends fields[i] as field number i+1, in ascending order. A nil field
// is absent and not written; an empty one is written with length 0.
func Append(b []byte, fields ...[]byte) []byte {
	for i, f := range fields {
		if f == nil {
			continue
		}
		b = binary.AppendUvarint(b, uint64(i+1)<<3|typeBytes)
		b = binary.AppendUvarint(b, uint64(len(f)))
		b = append(b, f...)
	}
	return b
}

// Parse sets fields[i] to the bytes of field number i+1, or to nil where the
// message has none; a field that is present and empty is not nil. The slices
// alias b.
//
// It does what the deployed decoder does (docs/spec/dht-rpc-v2.md §3): of a
// repeated field the last wins; the wire type of a known field is not looked
// at; a known field that runs past the end is cut to what is there; an unknown
// field is skipped, and skipping past the end is no error.
func Parse(b []byte, fields [][]byte) error {
	clear(fields)
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return ErrVarint
		}
		b = b[n:]
		if num := key >> 3; num >= 1 && num <= uint64(len(fields)) {
			size, n := binary.Uvarint(b)
			if n <= 0 {
				return ErrVarint
			}
			b = b[n:]
			end := min(size, uint64(len(b)))
			fields[num-1] = b[:end:end]
			b = b[end:]
			continue
		}
		skip, err := skipLen(b, key&7)
		if err != nil {
			return err
		}
		b = b[min(skip, uint64(len(b))):]
	}
	return nil
}

// skipLen returns the size of an unknown field's value at the start of b. It may
// exceed what is there.
func skipLen(b []byte, wireType uint64) (uint64, error) {
	switch wireType {
	case type64:
		return 8, nil
	case type32:
		return 4, nil
	case typeVarint, typeBytes:
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, ErrVarint
		}
		if wireType == typeVarint {
			return uint64(n), nil
		}
		return uint64(n) + min(v, math.MaxInt32), nil
	}
	return 0, ErrWireType
}

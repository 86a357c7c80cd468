// Package compact is compact-encoding, the byte language of dht-rpc v6,
// protomux and hyperdht: little-endian integers, length-prefixed buffers,
// and IP addresses with a little-endian port. docs/spec/dht-rpc.md §1.2.
//
//	uint      0..0xfc        one byte
//	          ..0xffff       fd, 2 bytes
//	          ..0xffffffff   fe, 4 bytes
//	          ..2^53-1       ff, 8 bytes
//	buffer    uint length, bytes
//	address   IPv4: 4 octets, port (2)
//	address6  IPv6: 16 octets, port (2)
//	array     uint count, elements
//
// Writing is a family of Append functions in the manner of encoding/binary;
// reading is a [Reader], whose error sticks so that a parser can read all
// fields and ask once. Neither allocates. Bytes that a Reader returns alias its
// input.
//
// Left out: the reflective and any-typed encodings (json, any, record) and
// floats, which no protocol here uses on the wire.
package compact

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

const (
	// MaxUint is the largest integer that the reference implementation can
	// hold. Reading a larger one fails; writing one is a programming error.
	MaxUint = 1<<53 - 1
	// MaxCount is the largest number of elements of an array.
	MaxCount = 1 << 20
)

// The two ways in which input can be wrong.
var (
	ErrShort = errors.New("compact: input ends inside a value")
	ErrRange = errors.New("compact: integer or count out of range")
)

// AppendUint appends a variable-length integer in its shortest form. It panics
// if v exceeds [MaxUint].
func AppendUint(b []byte, v uint64) []byte {
	switch {
	case v <= 0xfc:
		return append(b, byte(v))
	case v <= 0xffff:
		return binary.LittleEndian.AppendUint16(append(b, 0xfd), uint16(v))
	case v <= 0xffffffff:
		return binary.LittleEndian.AppendUint32(append(b, 0xfe), uint32(v))
	case v <= MaxUint:
		return binary.LittleEndian.AppendUint64(append(b, 0xff), v)
	}
	panic("BUG: compact: integer above 2^53-1")
}

// SizeUint returns the number of bytes that AppendUint appends.
func SizeUint(v uint64) int {
	switch {
	case v <= 0xfc:
		return 1
	case v <= 0xffff:
		return 3
	case v <= 0xffffffff:
		return 5
	}
	return 9
}

// AppendUint16 appends two bytes.
func AppendUint16(b []byte, v uint16) []byte { return binary.LittleEndian.AppendUint16(b, v) }

// AppendUint32 appends four bytes.
func AppendUint32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }

// AppendUint64 appends eight bytes. It panics if v exceeds [MaxUint], which
// the reference's fixed-size integer cannot exceed either.
func AppendUint64(b []byte, v uint64) []byte {
	if v > MaxUint {
		panic("BUG: compact: integer above 2^53-1")
	}
	return binary.LittleEndian.AppendUint64(b, v)
}

// AppendBool appends one byte, 1 or 0.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// AppendBuffer appends the length of v and v.
func AppendBuffer(b, v []byte) []byte { return append(AppendUint(b, uint64(len(v))), v...) }

// SizeBuffer returns the number of bytes that AppendBuffer appends for a value
// of n bytes.
func SizeBuffer(n int) int { return SizeUint(uint64(n)) + n }

// AppendString appends the length of s in bytes and s.
func AppendString(b []byte, s string) []byte { return append(AppendUint(b, uint64(len(s))), s...) }

// AddrSize is the number of bytes of an IPv4 address with port.
const AddrSize = 6

// Addr6Size is the number of bytes of an IPv6 address with port.
const Addr6Size = 18

// AppendAddr appends an IPv4 address and its port. It panics unless the address
// is an IPv4 one; callers refuse others at their API.
func AppendAddr(b []byte, a netip.AddrPort) []byte {
	ip := a.Addr().As4()
	return binary.LittleEndian.AppendUint16(append(b, ip[:]...), a.Port())
}

// AppendAddrs appends an array of IPv4 addresses.
func AppendAddrs(b []byte, as []netip.AddrPort) []byte {
	b = AppendUint(b, uint64(len(as)))
	for _, a := range as {
		b = AppendAddr(b, a)
	}
	return b
}

// AppendAddr6 appends an IPv6 address and its port; the zone is not written.
func AppendAddr6(b []byte, a netip.AddrPort) []byte {
	ip := a.Addr().As16()
	return binary.LittleEndian.AppendUint16(append(b, ip[:]...), a.Port())
}

// AppendAddrs6 appends an array of IPv6 addresses.
func AppendAddrs6(b []byte, as []netip.AddrPort) []byte {
	b = AppendUint(b, uint64(len(as)))
	for _, a := range as {
		b = AppendAddr6(b, a)
	}
	return b
}

package compact

import (
	"encoding/binary"
	"net/netip"
)

// A Reader reads values from the front of a byte slice. After the first error
// every method returns a zero value and [Reader.Err] the error. It is a value
// of one goroutine; its zero value reads from nothing.
type Reader struct {
	b   []byte // what is left
	err error
}

// NewReader returns a Reader of b. What it returns aliases b.
func NewReader(b []byte) Reader { return Reader{b: b} }

// Err returns the first error, ErrShort or ErrRange, or nil.
func (r *Reader) Err() error { return r.err }

// Fail makes the Reader fail with err unless it has failed already, for callers
// that check more than lengths.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// Len returns the number of bytes left, 0 after an error.
func (r *Reader) Len() int { return len(r.b) }

// Rest returns what is left without consuming it.
func (r *Reader) Rest() []byte { return r.b }

// Raw returns everything that is left.
func (r *Reader) Raw() []byte {
	b := r.b
	r.b = nil
	return b
}

// Fixed returns the next n bytes, nil if there are fewer.
func (r *Reader) Fixed(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.Fail(ErrShort)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// Fixed32 returns the next 32 bytes in place, nil if there are fewer.
func (r *Reader) Fixed32() *[32]byte {
	v := r.Fixed(32)
	if v == nil {
		return nil
	}
	return (*[32]byte)(v)
}

// Fixed64 returns the next 64 bytes in place, nil if there are fewer.
func (r *Reader) Fixed64() *[64]byte {
	v := r.Fixed(64)
	if v == nil {
		return nil
	}
	return (*[64]byte)(v)
}

// Uint reads a variable-length integer. Forms longer than needed are accepted,
// as the reference accepts them.
func (r *Reader) Uint() uint64 {
	if len(r.b) == 0 {
		r.Fail(ErrShort)
		return 0
	}
	first := r.b[0]
	if first <= 0xfc {
		r.b = r.b[1:]
		return uint64(first)
	}
	r.b = r.b[1:]
	switch first {
	case 0xfd:
		return uint64(r.Uint16())
	case 0xfe:
		return uint64(r.Uint32())
	}
	return r.Uint64()
}

// Uint8 reads one byte.
func (r *Reader) Uint8() uint8 {
	v := r.Fixed(1)
	if v == nil {
		return 0
	}
	return v[0]
}

// Bool reads one byte; only 1 is true, as in the reference.
func (r *Reader) Bool() bool { return r.Uint8() == 1 }

// Uint16 reads two bytes.
func (r *Reader) Uint16() uint16 {
	v := r.Fixed(2)
	if v == nil {
		return 0
	}
	return binary.LittleEndian.Uint16(v)
}

// Uint32 reads four bytes.
func (r *Reader) Uint32() uint32 {
	v := r.Fixed(4)
	if v == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(v)
}

// Uint64 reads eight bytes; a value above [MaxUint] fails with ErrRange.
func (r *Reader) Uint64() uint64 {
	v := r.Fixed(8)
	if v == nil {
		return 0
	}
	n := binary.LittleEndian.Uint64(v)
	if n > MaxUint {
		r.Fail(ErrRange)
		return 0
	}
	return n
}

// Buffer reads a length and that many bytes. The result is never nil unless
// the Reader has failed, so an empty buffer differs from none.
func (r *Reader) Buffer() []byte {
	n := r.Uint()
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.b)) {
		r.Fail(ErrShort)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// UTF8 reads a string: a length and that many bytes, which it copies. It does
// not check the encoding.
func (r *Reader) UTF8() string { return string(r.Buffer()) }

// Count reads the number of elements of an array whose elements take at least
// size bytes each. It fails unless so many can still follow, so that a caller
// may allocate by the result.
func (r *Reader) Count(size int) int {
	n := r.Uint()
	if r.err != nil {
		return 0
	}
	if n > MaxCount {
		r.Fail(ErrRange)
		return 0
	}
	if size > 0 && n > uint64(len(r.b)/size) {
		r.Fail(ErrShort)
		return 0
	}
	return int(n)
}

// Addr reads an IPv4 address and its port.
func (r *Reader) Addr() netip.AddrPort {
	v := r.Fixed(AddrSize)
	if v == nil {
		return netip.AddrPort{}
	}
	return addr(v)
}

// Addr6 reads an IPv6 address and its port.
func (r *Reader) Addr6() netip.AddrPort {
	v := r.Fixed(Addr6Size)
	if v == nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(v)), binary.LittleEndian.Uint16(v[16:]))
}

// Addrs reads an array of IPv4 addresses in place.
func (r *Reader) Addrs() Addrs {
	n := r.Count(AddrSize)
	return Addrs{r.Fixed(n * AddrSize)}
}

// AppendAddrs6 reads an array of IPv6 addresses and appends them to as.
func (r *Reader) AppendAddrs6(as []netip.AddrPort) []netip.AddrPort {
	for n := r.Count(Addr6Size); n > 0; n-- {
		as = append(as, r.Addr6())
	}
	return as
}

// Addrs is an array of IPv4 addresses as it lies in a message, read without
// copying. A value.
type Addrs struct{ b []byte }

// AddrsOf takes the elements of an array as they lie in a message, six bytes
// each, without the count before them.
func AddrsOf(b []byte) Addrs { return Addrs{b[:len(b)/AddrSize*AddrSize]} }

// Bytes returns the elements as they lie in the message.
func (a Addrs) Bytes() []byte { return a.b }

// Len returns the number of addresses.
func (a Addrs) Len() int { return len(a.b) / AddrSize }

// At returns address i.
func (a Addrs) At(i int) netip.AddrPort { return addr(a.b[i*AddrSize : (i+1)*AddrSize]) }

// Append appends the addresses to as.
func (a Addrs) Append(as []netip.AddrPort) []netip.AddrPort {
	for i := range a.Len() {
		as = append(as, a.At(i))
	}
	return as
}

func addr(v []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(v)), binary.LittleEndian.Uint16(v[4:]))
}

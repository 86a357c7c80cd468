// Package duo is both ends of the connection workloads (W4, W5, W6) over
// anything that dials and accepts ordered streams of bytes.
//
// A connection begins with a header from the client:
//
//	0     1      2            8                16
//	+-----+------+------------+----------------+
//	| 'W' | mode | zero       | length, LE u64 |
//	+-----+------+------------+----------------+
//
// Mode 0 echoes everything after it; mode 1 answers with 8 bytes, the length,
// when so many bytes have come after it; mode 2 does nothing.
package duo

import (
	"encoding/binary"
	"io"
	"sync"
)

// A Mode is what the server does with a connection.
type Mode byte

// The modes of the header.
const (
	Echo Mode = iota
	Sink
	Hold
)

const headerLen = 16

// header is the first bytes of a connection.
func header(mode Mode, length uint64) []byte {
	h := make([]byte, headerLen)
	h[0], h[1] = 'W', byte(mode)
	binary.LittleEndian.PutUint64(h[8:], length)
	return h
}

// bulkBuffers are for connections that carry much. An idle one holds none.
var bulkBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// Handle serves one connection and closes it.
func Handle(c io.ReadWriteCloser) {
	defer c.Close()
	var h [headerLen]byte
	if _, err := io.ReadFull(c, h[:]); err != nil {
		return
	}
	switch Mode(h[1]) {
	case Echo:
		echo(c)
	case Sink:
		if sink(c, binary.LittleEndian.Uint64(h[8:])) {
			c.Write(h[8:])
			drain(c)
		}
	case Hold:
		drain(c)
	}
}

// echo waits with a small buffer, and takes a large one while much comes.
func echo(c io.ReadWriter) {
	var small [256]byte
	for {
		n, err := c.Read(small[:])
		if err != nil {
			return
		}
		if _, err := c.Write(small[:n]); err != nil {
			return
		}
		if n < len(small) {
			continue
		}
		large := bulkBuffers.Get().(*[64 << 10]byte)
		for n >= len(small) && err == nil {
			if n, err = c.Read(large[:]); n > 0 {
				if _, werr := c.Write(large[:n]); werr != nil {
					err = werr
				}
			}
		}
		bulkBuffers.Put(large)
		if err != nil {
			return
		}
	}
}

// sink reads so many bytes; it says whether they came.
func sink(r io.Reader, length uint64) bool {
	large := bulkBuffers.Get().(*[64 << 10]byte)
	defer bulkBuffers.Put(large)
	for left := length; left > 0; {
		n, err := r.Read(large[:min(left, uint64(len(large)))])
		left -= uint64(n)
		if err != nil && left > 0 {
			return false
		}
	}
	return true
}

// drain reads to the end with a small buffer.
func drain(r io.Reader) {
	var small [256]byte
	for {
		if _, err := r.Read(small[:]); err != nil {
			return
		}
	}
}

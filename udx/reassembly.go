package udx

import (
	"sync"

	"github.com/warren-dht/warren/internal/seq"
)

const (
	// maxAhead bounds how far ahead of RCV.NXT a packet may be.
	maxAhead = 1 << 16
	// cellSize is the largest payload that is kept out of order: that of the
	// largest datagram that the reference takes.
	cellSize = 2048 - headerSize
	// cellCharge is what a kept packet costs of the window, whatever its size:
	// a full packet, as the sender counts it.
	cellCharge = 1452
)

// A cell holds a packet that came out of order.
type cell struct {
	flags flags
	size  int
	b     [cellSize]byte
}

var cellPool = sync.Pool{New: func() any { return new(cell) }}

// A reassembly keeps packets that came before their turn. What it takes it never
// drops, for the peer forgets what is acknowledged selectively. The zero value
// is empty and holds no memory. Owned by a core.
type reassembly struct {
	have  seq.Set
	cells map[seq.Number]*cell
}

// charge is the memory in use, in bytes of window.
func (r *reassembly) charge() int { return len(r.cells) * cellCharge }

// add keeps a packet and reports whether it was new and taken. limit bounds the
// charge.
func (r *reassembly) add(next, n seq.Number, fl flags, payload []byte, limit int) bool {
	if n.Sub(next) >= maxAhead || len(payload) > cellSize || r.charge()+cellCharge > limit || !r.have.Add(n) {
		return false
	}
	if r.cells == nil {
		r.cells = make(map[seq.Number]*cell)
	}
	c := cellPool.Get().(*cell)
	c.flags, c.size = fl, copy(c.b[:], payload)
	r.cells[n] = c
	return true
}

// take removes packet n, if it is there. The caller frees it.
func (r *reassembly) take(n seq.Number) *cell {
	if len(r.cells) == 0 {
		return nil
	}
	c := r.cells[n]
	if c == nil {
		return nil
	}
	delete(r.cells, n)
	r.have.TrimBefore(n + 1)
	if len(r.cells) == 0 {
		*r = reassembly{}
	}
	return c
}

// clear drops everything.
func (r *reassembly) clear() {
	for _, c := range r.cells {
		cellPool.Put(c)
	}
	*r = reassembly{}
}

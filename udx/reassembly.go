package udx

import (
	"slices"
	"unsafe"

	"github.com/warren-dht/warren/internal/seq"
)

const (
	// maxAhead bounds how far ahead of RCV.NXT a packet may be.
	maxAhead = 1 << 16
	// maxPayload is the largest payload that is kept out of order, or as a
	// message: that of the largest datagram that the reference takes.
	maxPayload = 2048 - headerSize
	// windowCharge is what a kept packet costs of the window, whatever its size:
	// a full packet, as the sender counts it.
	windowCharge = 1452
	// earlySize is what the description of a kept packet costs, with the range of
	// numbers that it may be alone in.
	earlySize = int(unsafe.Sizeof(early{}) + unsafe.Sizeof(seq.Range{}))
)

// An early is a packet that came before its turn.
type early struct {
	slab  *slab // where its payload begins; nil: it has none
	seq   seq.Number
	off   uint16 // in the slab
	size  uint16
	flags flags
}

// payload returns the packet's bytes, which may lie in two slabs.
func (e *early) payload() (a, b []byte) {
	if e.slab == nil {
		return nil, nil
	}
	a = e.slab.b[e.off:min(int(e.off)+int(e.size), len(e.slab.b))]
	if rest := int(e.size) - len(a); rest > 0 {
		b = e.slab.next.b[:rest]
	}
	return a, b
}

// A reassembly keeps packets that came before their turn. What it takes it never
// drops, for the peer forgets what is acknowledged selectively. Payloads lie one
// behind the other in slabs, each as large as those before it together, in the
// order of their arrival. The zero value is empty and holds no memory. Owned by a
// core.
type reassembly struct {
	mem   *memory
	have  seq.Set
	early []early // by number
	slab  *slab   // takes the next payload; nil: none yet
	held  int     // size of the slabs
}

// charge is the window in use, in bytes.
func (r *reassembly) charge() int { return len(r.early) * windowCharge }

// cost is the memory in use, in bytes.
func (r *reassembly) cost() int { return r.held + len(r.early)*earlySize }

// add keeps a packet and reports whether it was new and taken. limit bounds the
// charge, and twice of it the slabs, which packets that wait for long may hold
// for themselves.
func (r *reassembly) add(next, n seq.Number, fl flags, payload []byte, limit int) bool {
	if n.Sub(next) >= maxAhead || len(payload) > maxPayload || r.charge()+windowCharge > limit || r.held > 2*limit {
		return false
	}
	if need := len(payload) + earlySize; r.cost()+need > share && r.mem.left() < need {
		return false
	}
	if !r.have.Add(n) {
		return false
	}
	e := early{seq: n, flags: fl}
	if len(payload) > 0 {
		e.size = uint16(len(payload))
		e.slab, e.off = r.store(payload)
	}
	at := len(r.early)
	if at > 0 && !r.early[at-1].seq.Less(n) {
		at, _ = slices.BinarySearchFunc(r.early, n, func(e early, n seq.Number) int { return e.seq.Sub(n) })
	}
	r.early = slices.Insert(r.early, at, e)
	r.mem.take(earlySize)
	return true
}

// store copies a payload behind the others.
func (r *reassembly) store(p []byte) (s *slab, off uint16) {
	if r.slab == nil || r.slab.w == len(r.slab.b) {
		r.extend(len(p))
	}
	s, off = r.slab, uint16(r.slab.w)
	for len(p) > 0 {
		if r.slab.w == len(r.slab.b) {
			r.extend(len(p))
		}
		k := copy(r.slab.b[r.slab.w:], p)
		r.slab.w += k
		r.slab.refs++
		p = p[k:]
	}
	return s, off
}

// extend begins a slab for a payload of n bytes.
func (r *reassembly) extend(n int) {
	s := newSlab(max(n, r.held))
	if r.slab != nil {
		r.slab.next = s
	}
	r.slab = s
	r.held += len(s.b)
	r.mem.take(len(s.b))
}

// head returns packet n if it is there; nothing before it may be. pop removes it.
func (r *reassembly) head(n seq.Number) *early {
	if len(r.early) == 0 || r.early[0].seq != n {
		return nil
	}
	return &r.early[0]
}

// pop removes the first packet.
func (r *reassembly) pop() {
	e := r.early[0]
	if len(r.early) == 1 {
		r.clear()
		return
	}
	r.early[0].slab = nil
	r.early = r.early[1:]
	r.mem.take(-earlySize)
	r.have.TrimBefore(e.seq + 1)
	if _, rest := e.payload(); rest != nil {
		r.letGo(e.slab.next)
	}
	if e.slab != nil {
		r.letGo(e.slab)
	}
}

// letGo ends a packet's use of a slab.
func (r *reassembly) letGo(s *slab) {
	if s.refs--; s.refs > 0 {
		return
	}
	if s == r.slab {
		s.w = 0
		return
	}
	r.drop(s)
}

func (r *reassembly) drop(s *slab) {
	r.held -= len(s.b)
	r.mem.take(-len(s.b))
	s.free()
}

// clear drops everything.
func (r *reassembly) clear() {
	r.mem.take(-len(r.early) * earlySize)
	for _, e := range r.early {
		// Each slab goes with the last packet in it, but for the one that takes
		// the next.
		if _, rest := e.payload(); rest != nil {
			r.letGo(e.slab.next)
		}
		if e.slab != nil {
			r.letGo(e.slab)
		}
	}
	if r.slab != nil {
		r.drop(r.slab)
	}
	*r = reassembly{mem: r.mem}
}

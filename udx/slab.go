package udx

import (
	"math/bits"
	"sync"
)

// A slab is a piece of pooled memory that a stream borrows while it has bytes
// to keep, so that an idle stream holds none.
type slab struct {
	b    []byte
	r, w int   // as a queue's element: bytes from r to w are unread
	refs int   // packets that lie in it
	next *slab // as a reassembly's: where its last packet continues
}

const (
	// tinySlab is the smallest slab.
	tinySlab  = 512
	smallSlab = 4 << 10
	// largeSlab holds a train of 44 packets of the largest size.
	largeSlab = 64 << 10
)

var slabPools [8]sync.Pool // of *slab, of tinySlab<<i bytes

// newSlab borrows a slab of at least n bytes, or the largest there is.
func newSlab(n int) *slab {
	i := 0
	if n > tinySlab {
		i = min(bits.Len(uint(n-1)/tinySlab), len(slabPools)-1)
	}
	s, _ := slabPools[i].Get().(*slab)
	if s == nil {
		return &slab{b: make([]byte, tinySlab<<i)}
	}
	s.r, s.w, s.refs = 0, 0, 0
	return s
}

// free gives the slab back. Nobody may hold a part of it any more.
func (s *slab) free() {
	s.next = nil
	slabPools[bits.Len(uint(len(s.b)/tinySlab))-1].Put(s)
}

// A byteQueue is a queue of bytes in slabs, each as large as those before it
// together: what it holds is at most three times its size. The zero value is
// empty and holds no memory, as does one that was emptied.
type byteQueue struct {
	mem   *memory
	slabs []*slab
	size  int
	held  int // size of the slabs
}

// write appends a copy of p.
func (q *byteQueue) write(p []byte) {
	q.size += len(p)
	for len(p) > 0 {
		n := len(q.slabs)
		if n == 0 || q.slabs[n-1].w == len(q.slabs[n-1].b) {
			s := newSlab(max(q.held, len(p), smallSlab))
			q.slabs = append(q.slabs, s)
			q.hold(len(s.b))
			n++
		}
		s := q.slabs[n-1]
		k := copy(s.b[s.w:], p)
		s.w += k
		p = p[k:]
	}
}

func (q *byteQueue) hold(n int) {
	q.held += n
	q.mem.take(n)
}

// read moves bytes to p and returns how many.
func (q *byteQueue) read(p []byte) int {
	total, done := 0, 0
	for len(p) > 0 && done < len(q.slabs) {
		s := q.slabs[done]
		n := copy(p, s.b[s.r:s.w])
		s.r += n
		p = p[n:]
		total += n
		if s.r < s.w {
			break
		}
		if s.w == len(s.b) || done == len(q.slabs)-1 {
			q.hold(-len(s.b))
			s.free()
			done++
		}
	}
	q.size -= total
	q.drop(done)
	return total
}

func (q *byteQueue) drop(n int) {
	if n == 0 {
		return
	}
	k := copy(q.slabs, q.slabs[n:])
	clear(q.slabs[k:])
	q.slabs = q.slabs[:k]
	if k == 0 && cap(q.slabs) > 16 {
		q.slabs = nil
	}
}

// clear drops all bytes.
func (q *byteQueue) clear() {
	for _, s := range q.slabs {
		s.free()
	}
	q.drop(len(q.slabs))
	q.slabs, q.size = nil, 0
	q.hold(-q.held)
}

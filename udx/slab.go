package udx

import "sync"

// A slab is a piece of pooled memory that a stream borrows while it has bytes
// to keep, so that an idle stream holds none.
type slab struct {
	b    []byte
	r, w int // as a queue's element: bytes from r to w are unread
	refs int // as a send queue's: packets that lie in it
}

const (
	smallSlab = 4 << 10
	// largeSlab holds a train of 44 packets of the largest size.
	largeSlab = 64 << 10
)

var slabPools = [2]sync.Pool{
	{New: func() any { return &slab{b: make([]byte, smallSlab)} }},
	{New: func() any { return &slab{b: make([]byte, largeSlab)} }},
}

// newSlab borrows a slab fit for about n bytes.
func newSlab(n int) *slab {
	i := 0
	if n > smallSlab {
		i = 1
	}
	s := slabPools[i].Get().(*slab)
	s.r, s.w, s.refs = 0, 0, 0
	return s
}

// free gives the slab back. Nobody may hold a part of it any more.
func (s *slab) free() {
	if len(s.b) == smallSlab {
		slabPools[0].Put(s)
	} else {
		slabPools[1].Put(s)
	}
}

// A byteQueue is a queue of bytes in slabs. The zero value is empty and holds
// no memory, as does one that was emptied.
type byteQueue struct {
	slabs []*slab
	size  int
}

// write appends a copy of p.
func (q *byteQueue) write(p []byte) {
	q.size += len(p)
	for len(p) > 0 {
		n := len(q.slabs)
		if n == 0 || q.slabs[n-1].w == len(q.slabs[n-1].b) {
			// What does not fit into a small slab will grow further.
			q.slabs = append(q.slabs, newSlab(n*largeSlab+len(p)))
			n++
		}
		s := q.slabs[n-1]
		k := copy(s.b[s.w:], p)
		s.w += k
		p = p[k:]
	}
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
}

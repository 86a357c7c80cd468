package keep

// A ref names an item of a slab; 0 is none. It is half as long as a pointer and
// nothing that the garbage collector looks at.
type ref uint32

// A slab holds items in chunks that never move, so that a pointer to an item is
// good until it is freed.
type slab[T any] struct {
	chunks [][]T
	used   ref   // refs up to here were given out
	free   []ref // of those, the ones that were given back
}

const slabChunk = 256

// at is the item of a ref.
func (s *slab[T]) at(r ref) *T { return &s.chunks[(r-1)/slabChunk][(r-1)%slabChunk] }

// alloc returns a new, zero item.
func (s *slab[T]) alloc() (ref, *T) {
	var r ref
	if n := len(s.free); n > 0 {
		r, s.free = s.free[n-1], s.free[:n-1]
	} else {
		if int(s.used) == slabChunk*len(s.chunks) {
			s.chunks = append(s.chunks, make([]T, slabChunk))
		}
		s.used++
		r = s.used
	}
	return r, s.at(r)
}

// release gives an item back.
func (s *slab[T]) release(r ref) {
	var zero T
	*s.at(r) = zero
	if len(s.free) == int(s.used)-1 { // all are free: give the memory back
		*s = slab[T]{}
		return
	}
	s.free = append(s.free, r)
}

package seq

import (
	"slices"
	"sort"
)

// A Range is the numbers from Start up to, and without, End.
type Range struct {
	Start, End Number
}

// Len returns how many numbers the range holds.
func (r Range) Len() int { return r.End.Sub(r.Start) }

// A Set is a set of numbers as ascending ranges that neither overlap nor touch.
// All of its members must lie within 2^31 of each other. The zero value is the
// empty set. It is not safe for concurrent use.
type Set []Range

// Contains reports whether n is a member.
func (s Set) Contains(n Number) bool { return s.Find(n) >= 0 }

// Find returns the index of the range that holds n, or -1.
func (s Set) Find(n Number) int {
	if i := s.after(n) - 1; i >= 0 && n.Less(s[i].End) {
		return i
	}
	return -1
}

// after returns the index of the first range that starts after n.
func (s Set) after(n Number) int {
	// Arrivals are mostly at the upper end.
	if k := len(s); k == 0 || s[k-1].Start.LessEq(n) {
		return k
	}
	return sort.Search(len(s), func(i int) bool { return n.Less(s[i].Start) })
}

// Add makes n a member and reports whether it was none.
func (s *Set) Add(n Number) bool {
	i := s.after(n)
	if i > 0 && n.Less((*s)[i-1].End) {
		return false
	}
	below := i > 0 && (*s)[i-1].End == n
	above := i < len(*s) && (*s)[i].Start == n+1
	switch {
	case below && above:
		(*s)[i-1].End = (*s)[i].End
		*s = slices.Delete(*s, i, i+1)
	case below:
		(*s)[i-1].End = n + 1
	case above:
		(*s)[i].Start = n
	default:
		*s = slices.Insert(*s, i, Range{n, n + 1})
	}
	return true
}

// TrimBefore removes all members before n.
func (s *Set) TrimBefore(n Number) {
	k := 0
	for k < len(*s) && (*s)[k].End.LessEq(n) {
		k++
	}
	if k > 0 {
		*s = slices.Delete(*s, 0, k)
	}
	if len(*s) > 0 && (*s)[0].Start.Less(n) {
		(*s)[0].Start = n
	}
}

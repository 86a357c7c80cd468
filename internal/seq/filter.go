package seq

import "cmp"

// A MaxFilter estimates the maximum of the samples within a sliding window, in
// constant space: it keeps the best sample and the best of what came after it,
// twice (Kathleen Nichols' algorithm, as in the Linux kernel's win_minmax). The
// window's unit is the caller's: nanoseconds, or rounds. The zero value is empty.
type MaxFilter[V cmp.Ordered] struct{ f filter[V] }

// Update adds a sample taken at time t, which must not go backwards, to a
// window of the given length, and returns the new maximum.
func (m *MaxFilter[V]) Update(window, t int64, v V) V {
	return m.f.update(window, t, v, m.f.s[0].v <= v, m.f.s[1].v <= v, m.f.s[2].v <= v)
}

// Value returns the maximum, or the zero value if there is none yet.
func (m *MaxFilter[V]) Value() V { return m.f.s[0].v }

// Reset forgets everything but one sample.
func (m *MaxFilter[V]) Reset(t int64, v V) { m.f.reset(t, v) }

// A MinFilter is the same for the minimum.
type MinFilter[V cmp.Ordered] struct{ f filter[V] }

// Update adds a sample and returns the new minimum.
func (m *MinFilter[V]) Update(window, t int64, v V) V {
	return m.f.update(window, t, v, m.f.s[0].v >= v, m.f.s[1].v >= v, m.f.s[2].v >= v)
}

// Value returns the minimum, or the zero value if there is none yet.
func (m *MinFilter[V]) Value() V { return m.f.s[0].v }

// Reset forgets everything but one sample.
func (m *MinFilter[V]) Reset(t int64, v V) { m.f.reset(t, v) }

type sample[V any] struct {
	t int64
	v V
}

// filter holds the best, second and third best sample, in the order of time.
type filter[V any] struct {
	s    [3]sample[V]
	full bool
}

func (f *filter[V]) reset(t int64, v V) {
	f.s = [3]sample[V]{{t, v}, {t, v}, {t, v}}
	f.full = true
}

// update is told how the new value compares with the three kept ones: whether
// it is as good as, or better than, each.
func (f *filter[V]) update(window, t int64, v V, best, second, third bool) V {
	if !f.full || best || t-f.s[2].t > window {
		f.reset(t, v)
		return v
	}
	n := sample[V]{t, v}
	if second {
		f.s[2], f.s[1] = n, n
	} else if third {
		f.s[2] = n
	}
	switch dt := t - f.s[0].t; {
	case dt > window:
		// The best has left the window: promote the others, twice if the
		// second is too old as well.
		f.s[0], f.s[1], f.s[2] = f.s[1], f.s[2], n
		if t-f.s[0].t > window {
			f.s[0], f.s[1], f.s[2] = f.s[1], f.s[2], n
		}
	case f.s[1].t == f.s[0].t && dt > window/4:
		// A quarter of the window passed without a second choice: take one.
		f.s[2], f.s[1] = n, n
	case f.s[2].t == f.s[1].t && dt > window/2:
		f.s[2] = n
	}
	return f.s[0].v
}

package seq

import (
	"math/rand/v2"
	"testing"
)

func TestNumberWraps(t *testing.T) {
	for _, c := range []struct {
		a, b Number
		less bool
		sub  int
	}{
		{0, 1, true, -1},
		{1, 0, false, 1},
		{0xffffffff, 0, true, -1},
		{0, 0xffffffff, false, 1},
		{0xfffffff0, 0x10, true, -0x20},
		{7, 7, false, 0},
	} {
		if got := c.a.Less(c.b); got != c.less {
			t.Errorf("%d < %d: %v", c.a, c.b, got)
		}
		if got := c.a.LessEq(c.b); got != (c.less || c.a == c.b) {
			t.Errorf("%d <= %d: %v", c.a, c.b, got)
		}
		if got := c.a.Sub(c.b); got != c.sub {
			t.Errorf("%d - %d = %d, want %d", c.a, c.b, got, c.sub)
		}
		want := c.a
		if c.less {
			want = c.b
		}
		if got := Max(c.a, c.b); got != want {
			t.Errorf("Max(%d, %d) = %d", c.a, c.b, got)
		}
	}
}

// TestSetAgainstMap compares the set with a map of its members, around the
// point where numbers wrap.
func TestSetAgainstMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		base := Number(0) - Number(r.IntN(300))
		var s Set
		m := map[Number]bool{}
		low := base
		for range 150 {
			n := base + Number(r.IntN(300))
			if r.IntN(20) == 0 {
				if low.Less(n) {
					low = n
				}
				s.TrimBefore(n)
				for k := range m {
					if k.Less(n) {
						delete(m, k)
					}
				}
			} else if s.Add(n) == m[n] {
				t.Fatalf("round %d: Add(%d) = %v", round, n, !m[n])
			} else {
				m[n] = true
			}
			check(t, s, m, base)
		}
	}
}

func check(t *testing.T, s Set, m map[Number]bool, base Number) {
	t.Helper()
	total := 0
	for i, r := range s {
		if r.Len() <= 0 {
			t.Fatalf("empty range %v", r)
		}
		if i > 0 && !s[i-1].End.Less(r.Start) {
			t.Fatalf("ranges touch or are out of order: %v", s)
		}
		total += r.Len()
	}
	if total != len(m) {
		t.Fatalf("set holds %d, want %d: %v", total, len(m), s)
	}
	for k := range Number(310) {
		if n := base - 5 + k; s.Contains(n) != m[n] {
			t.Fatalf("Contains(%d) = %v: %v", n, !m[n], s)
		}
	}
}

// TestFilters holds the estimate against the true extreme: it is never better
// than the truth over the window, and as good as anything in its newest quarter.
func TestFilters(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	const window = 40
	var hi MaxFilter[int]
	var lo MinFilter[int]
	if hi.Value() != 0 || lo.Value() != 0 {
		t.Fatal("a new filter is not empty")
	}
	type point struct {
		t int64
		v int
	}
	var past []point
	now := int64(0)
	for range 5000 {
		now += int64(r.IntN(4))
		v := r.IntN(1000) - 300
		past = append(past, point{now, v})
		gotHi, gotLo := hi.Update(window, now, v), lo.Update(window, now, v)
		bestHi, bestLo := v, v
		newHi, newLo := v, v
		for _, p := range past[max(0, len(past)-200):] {
			if now-p.t <= window {
				bestHi, bestLo = max(bestHi, p.v), min(bestLo, p.v)
			}
			if now-p.t <= window/4 {
				newHi, newLo = max(newHi, p.v), min(newLo, p.v)
			}
		}
		if gotHi > bestHi || gotHi < newHi || gotHi != hi.Value() {
			t.Fatalf("at %d: max %d, window's %d, newest's %d", now, gotHi, bestHi, newHi)
		}
		if gotLo < bestLo || gotLo > newLo || gotLo != lo.Value() {
			t.Fatalf("at %d: min %d, window's %d, newest's %d", now, gotLo, bestLo, newLo)
		}
	}
	hi.Reset(now, -1)
	lo.Reset(now, 1)
	if hi.Value() != -1 || lo.Value() != 1 {
		t.Fatal("Reset kept older samples")
	}
}

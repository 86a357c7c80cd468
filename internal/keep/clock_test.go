package keep

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

const day = 24 * time.Hour

// A passing is what the two clocks say has passed.
type passing struct{ wall, mono time.Duration }

func TestClock(t *testing.T) {
	age := 20 * time.Minute // so a difference counts five minutes at most
	for _, c := range []struct {
		name string
		then []passing
		want time.Duration // of store time
	}{
		{"time passes", []passing{{time.Hour, time.Hour}, {time.Second, time.Second}}, time.Hour + time.Second},
		{"a short sleep", []passing{{2 * time.Minute, time.Second}}, 2 * time.Minute},
		{"a sleep of eight hours", []passing{{8*time.Hour + time.Second, time.Second}}, 5*time.Minute + time.Second},
		{"48 hours ahead", []passing{{2 * day, 0}, {time.Minute, time.Minute}}, 6 * time.Minute},
		{"five days back", []passing{{-5 * day, 0}, {time.Hour, time.Hour}}, time.Hour},
		{"ahead and back", []passing{{2 * day, 0}, {-2 * day, 0}, {time.Minute, time.Minute}}, 6 * time.Minute},
		{"to and fro", []passing{{2 * day, 0}, {-2 * day, 0}, {2 * day, 0}, {-2 * day, 0}, {2 * day, 0}}, 5 * time.Minute},
		{"back and again right", []passing{{-5 * day, 0}, {time.Minute, time.Minute}, {5 * day, 0}}, time.Minute},
		{"asleep while the clock is behind", []passing{{-5 * day, 0}, {8 * time.Hour, 0}}, 0},
		{"two sleeps", []passing{{8 * time.Hour, 0}, {8 * time.Hour, 0}}, 10 * time.Minute},
	} {
		clock := NewClock(48*time.Hour, 0, age)
		begin := clock.Now(start)
		for _, p := range c.then {
			clock.Step(p.wall, p.mono)
		}
		if got := clock.Now(start).Sub(begin); got != c.want {
			t.Errorf("%s: %v of store time, want %v", c.name, got, c.want)
		}
	}
}

// After a pause, or with a wrong clock, store time goes on from the newest stamp.
func TestClockStarts(t *testing.T) {
	for _, c := range []struct {
		name   string
		newest time.Time
		want   time.Time
	}{
		{"a minute's pause", after(-time.Minute), after(0)},
		{"a pause, or the clock 48 hours ahead", after(-2 * day), after(-2*day + 5*time.Minute)},
		{"the clock five days behind", after(5 * day), after(5 * day)},
	} {
		clock := NewClock(20 * time.Minute)
		if got := clock.Start(start, c.newest); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if got := clock.Now(after(time.Hour)); !got.Equal(c.want.Add(time.Hour)) {
			t.Errorf("%s: an hour later: %v, want %v", c.name, got, c.want.Add(time.Hour))
		}
	}
}

// Readings of this machine's clocks, and some that come out of order.
func TestClockReads(t *testing.T) {
	clock := NewClock(time.Hour)
	first := time.Now()
	if got := clock.Now(first); !got.Equal(first) {
		t.Errorf("store time begins at %v, not at %v", got, first)
	}
	if got := clock.Now(first.Add(time.Minute)); !got.Equal(first.Add(time.Minute)) {
		t.Errorf("a minute later: %v", got.Sub(first))
	}
	if got := clock.Now(first.Add(time.Second)); !got.Equal(first.Add(time.Minute)) {
		t.Errorf("an older reading: %v", got.Sub(first))
	}
	if got := clock.Now(first.Add(2 * time.Minute)); !got.Equal(first.Add(2 * time.Minute)) {
		t.Errorf("a minute after that: %v", got.Sub(first))
	}
	if NewClock(0, -1).MaxStep() != 0 || NewClock(-1, time.Hour, time.Minute).MaxStep() != 15*time.Second {
		t.Error("MaxStep")
	}
}

// Whatever the wall clock does, store time advances at least as the monotonic
// clock does, and a step counts MaxStep at most.
func TestClockIsBounded(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		clock := NewClock(time.Hour)
		last := clock.Now(start)
		for range rapid.IntRange(1, 50).Draw(r, "steps") {
			mono := time.Duration(rapid.Int64Range(0, int64(day)).Draw(r, "mono"))
			wall := time.Duration(rapid.Int64Range(-int64(100*day), int64(100*day)).Draw(r, "wall"))
			now := clock.Step(wall, mono)
			if d := now.Sub(last); d < mono || d > mono+clock.MaxStep() {
				r.Fatalf("%v passed, %v by the wall clock: %v of store time", mono, wall, d)
			}
			last = now
		}
	})
}

// The stores of a node whose clock is wrong: what is refreshed in time is always
// there, and what is not refreshed expires.
func TestStepsOfTheClockEmptyNoStore(t *testing.T) {
	const age, every = 20 * time.Minute, 10 * time.Minute
	for name, p := range map[string]passing{
		"48 hours ahead": {2 * day, 0}, "five days back": {-5 * day, 0}, "eight hours asleep": {8 * time.Hour, 0},
	} {
		clock := NewClock(age)
		clock.Now(start)
		m := NewMap[string, int, string](Limits{Entries: 10, Age: age}, nil)
		now := func() time.Time { return clock.Step(0, 0) }
		minute := func() { clock.Step(time.Minute, time.Minute) }
		m.Put(now(), "left alone", 0, "x")
		for i := range 60 {
			if i%int(every/time.Minute) == 0 {
				if _, _, ok := m.Get(now(), "refreshed"); !ok && i > 0 {
					t.Errorf("%s: a refreshed entry is gone after %d minutes", name, i)
				}
				m.Put(now(), "refreshed", 0, "y")
			}
			if i == 9 { // just before it is refreshed
				clock.Step(p.wall, p.mono)
				if m.Expire(now()); m.Len() != 2 {
					t.Errorf("%s: %d of 2 entries are left", name, m.Len())
				}
			}
			minute()
			if _, _, ok := m.Get(now(), "left alone"); ok != (i+1 < 20) && (i < 14 || i >= 20) {
				t.Errorf("%s: after %d minutes the entry that nobody refreshes is there: %v", name, i+1, ok)
			}
		}
	}
}

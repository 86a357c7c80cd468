package udx

import "time"

// An instant is a point in time as the pure parts of this package know it:
// nanoseconds on the monotonic clock of a Mux. 0 means "never" or "not yet".
type instant int64

// add returns the instant d later.
func (t instant) add(d time.Duration) instant { return t + instant(d) }

// sub returns the time that passed since u.
func (t instant) sub(u instant) time.Duration { return time.Duration(t - u) }

// reached reports whether the deadline t is set and not later than now.
func (t instant) reached(now instant) bool { return t != 0 && t <= now }

// earliest returns the earlier of two deadlines, of which either may be unset.
func earliest(a, b instant) instant {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// A clock gives instants. The zero instant lies before its start.
type clock struct{ epoch time.Time }

func newClock() clock { return clock{time.Now().Add(-time.Second)} }

func (c clock) now() instant { return instant(time.Since(c.epoch)) }

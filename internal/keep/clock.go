package keep

import "time"

// A Clock makes store time, by which entries age, of the two clocks of a
// machine. Neither of them alone will do. The wall clock can be set: a step
// ahead would empty every store at once, a step back would keep entries for
// ever. The monotonic clock cannot be set, but on many systems it stands still
// while the machine sleeps, and it starts again with the process.
//
// The rule:
//
//   - Store time advances with the monotonic clock. It never goes back.
//   - When the wall clock advances further than the monotonic one, the machine
//     slept or the wall clock was set; nothing tells which. The difference
//     counts, but at most as MaxStep: a quarter of the shortest age of the
//     stores. So what is refreshed in time is still there when it is refreshed
//     next, and what is not refreshed expires soon after.
//   - When the wall clock goes back, that does not count. Neither does the
//     first advance after it, until the wall clock is again where it would have
//     been. So a clock that swings to and fro counts once.
//   - The time between two runs of a program is such a difference too: Start
//     counts it, at most as MaxStep, from the newest stamp of the last run. A
//     wall clock that is behind that stamp does not count.
//
// On a system whose monotonic clock runs while the machine sleeps, sleep counts
// in full.
//
// Store time begins as the wall clock's time and falls behind it with each
// difference that does not count. It is good for ages and stamps, not for dates.
// A Clock belongs to one goroutine.
type Clock struct {
	step    time.Duration
	started bool
	last    time.Time     // the newest reading
	store   time.Time     // store time then
	offset  time.Duration // of the wall clock from the monotonic one, since the first reading
	highest time.Duration // the largest offset so far
}

// NewClock returns a clock for stores whose entries live for these ages. Ages of
// zero or less mean that entries live for ever; they do not count.
func NewClock(ages ...time.Duration) *Clock {
	var shortest time.Duration
	for _, a := range ages {
		if a > 0 && (shortest == 0 || a < shortest) {
			shortest = a
		}
	}
	return &Clock{step: shortest / 4}
}

// MaxStep is how much of a difference between the clocks counts at most.
func (c *Clock) MaxStep() time.Duration { return c.step }

// Start begins store time, which continues from newest, the newest stamp of an
// earlier run. The reading is what time.Now returned.
func (c *Clock) Start(reading, newest time.Time) time.Time {
	c.Now(reading)
	gap := c.store.Sub(newest)
	c.store = newest.Round(0).Add(min(max(gap, 0), c.step))
	return c.store
}

// Now returns the store time of a reading, which is what time.Now returned: a
// wall clock and a monotonic one. A reading without the latter, as in a bubble
// of testing/synctest, stands for both. Without Start, store time begins as the
// wall clock's time of the first reading. A reading that is older than an
// earlier one gives the store time of that one.
func (c *Clock) Now(reading time.Time) time.Time {
	if !c.started {
		c.started, c.last, c.store = true, reading, reading.Round(0)
		return c.store
	}
	mono := reading.Sub(c.last)
	if mono < 0 {
		return c.store
	}
	wall := reading.Round(0).Sub(c.last.Round(0))
	c.last = reading
	return c.Step(wall, mono)
}

// Step advances the clock by what the wall clock and the monotonic clock say has
// passed, and returns the store time. The second must not be negative. Now calls
// it; tests may, to set the wall clock (mono is 0) or to sleep (likewise).
func (c *Clock) Step(wall, mono time.Duration) time.Time {
	c.store = c.store.Add(mono)
	c.offset += wall - mono
	if ahead := c.offset - c.highest; ahead > 0 {
		c.highest = c.offset
		c.store = c.store.Add(min(ahead, c.step))
	}
	return c.store
}

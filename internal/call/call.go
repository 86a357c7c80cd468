// Package call keeps the requests that a node has in flight: their transaction
// ids, transmissions and deadlines. It sends nothing and asks no clock; the
// owner of a Table passes the time in and transmits.
//
//	c, ok := t.Add(now, retries, payload)    // a transaction id of its own
//	t.Sent(c, now, now.Add(timeout))         // the owner has transmitted
//	t.Deadline()                             // when to call Expired
//	for c := range t.Expired(now)            // no reply in time:
//	    if c.Exhausted() { t.Remove(c); ... } else { transmit; t.Sent(...) }
//	if c := t.Get(tid); c != nil { t.Remove(c); ... }   // a reply
package call

import (
	"iter"
	"math/rand/v2"
	"time"
)

// A Call is one request in flight, with what its protocol wants to remember.
// Owned by its Table's owner.
type Call[T any] struct {
	TID     uint16
	Retries int       // transmissions allowed after the first
	Sent    int       // transmissions so far
	Created time.Time // when it was added
	Last    time.Time // when it was last transmitted
	Payload T

	deadline time.Time
	pos      int // in Table.heap, or idle, or done
}

const (
	idle = -1 // no deadline runs: not yet transmitted, or expired
	done = -2 // removed
)

// Done reports whether the call has been removed from its table. Whoever keeps
// a call in a queue skips it then.
func (c *Call[T]) Done() bool { return c.pos == done }

// Exhausted reports whether no transmission is left.
func (c *Call[T]) Exhausted() bool { return c.Sent > c.Retries }

// Deadline returns when the call expires, the zero time if no deadline runs.
func (c *Call[T]) Deadline() time.Time {
	if c.pos < 0 {
		return time.Time{}
	}
	return c.deadline
}

// A Table holds the calls in flight. Transaction ids are drawn at random, so
// that a stranger cannot guess them, and none is drawn that is in flight. Owned
// by one goroutine.
type Table[T any] struct {
	rand  *rand.Rand
	mask  uint16
	max   int
	calls map[uint16]*Call[T]
	heap  []*Call[T] // by deadline
}

// NewTable returns a table for transaction ids of the given number of bits, at
// most 16, and at most half as many calls, so that a free id is found soon.
func NewTable[T any](r *rand.Rand, bits int) *Table[T] {
	if bits < 1 || bits > 16 {
		panic("BUG: call: transaction ids have 1 to 16 bits")
	}
	return &Table[T]{rand: r, mask: 1<<bits - 1, max: 1 << (bits - 1), calls: make(map[uint16]*Call[T])}
}

// Len returns the number of calls in flight.
func (t *Table[T]) Len() int { return len(t.calls) }

// Add makes a call with a new transaction id. It returns false if the table is
// full.
func (t *Table[T]) Add(now time.Time, retries int, payload T) (*Call[T], bool) {
	if len(t.calls) >= t.max {
		return nil, false
	}
	for {
		tid := uint16(t.rand.Uint32()) & t.mask
		if _, taken := t.calls[tid]; taken {
			continue
		}
		c := &Call[T]{TID: tid, Retries: max(retries, 0), Created: now, Payload: payload, pos: idle}
		t.calls[tid] = c
		return c, true
	}
}

// Get returns the call with a transaction id, nil if none is in flight.
func (t *Table[T]) Get(tid uint16) *Call[T] { return t.calls[tid] }

// Sent counts a transmission at now and lets the call expire at the deadline.
func (t *Table[T]) Sent(c *Call[T], now, deadline time.Time) {
	if c.pos == done {
		panic("BUG: call: transmission of a removed call")
	}
	c.Sent++
	c.Last = now
	c.deadline = deadline
	if c.pos == idle {
		c.pos = len(t.heap)
		t.heap = append(t.heap, c)
		t.up(c.pos)
		return
	}
	t.down(c.pos)
	t.up(c.pos)
}

// Remove ends a call. Removing it twice does nothing.
func (t *Table[T]) Remove(c *Call[T]) {
	if c.pos == done {
		return
	}
	t.unschedule(c)
	c.pos = done
	delete(t.calls, c.TID)
}

// Deadline returns the earliest time at which a call expires; false if none
// will.
func (t *Table[T]) Deadline() (time.Time, bool) {
	if len(t.heap) == 0 {
		return time.Time{}, false
	}
	return t.heap[0].deadline, true
}

// Expired yields the calls whose deadline is not after now, earliest first.
// Their deadline no longer runs; the caller transmits them again or removes
// them. It may change the table while it iterates.
func (t *Table[T]) Expired(now time.Time) iter.Seq[*Call[T]] {
	return func(yield func(*Call[T]) bool) {
		for len(t.heap) > 0 && !t.heap[0].deadline.After(now) {
			c := t.heap[0]
			t.unschedule(c)
			if !yield(c) {
				return
			}
		}
	}
}

// All yields the calls in flight in no order. The caller may remove them.
func (t *Table[T]) All() iter.Seq[*Call[T]] {
	return func(yield func(*Call[T]) bool) {
		for _, c := range t.calls {
			if !yield(c) {
				return
			}
		}
	}
}

func (t *Table[T]) unschedule(c *Call[T]) {
	i := c.pos
	if i < 0 {
		return
	}
	last := len(t.heap) - 1
	t.swap(i, last)
	t.heap[last] = nil
	t.heap = t.heap[:last]
	c.pos = idle
	if i < last {
		t.down(i)
		t.up(i)
	}
}

func (t *Table[T]) swap(i, j int) {
	t.heap[i], t.heap[j] = t.heap[j], t.heap[i]
	t.heap[i].pos, t.heap[j].pos = i, j
}

func (t *Table[T]) less(i, j int) bool { return t.heap[i].deadline.Before(t.heap[j].deadline) }

func (t *Table[T]) up(i int) {
	for i > 0 && t.less(i, (i-1)/2) {
		t.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (t *Table[T]) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(t.heap); child++ {
			if t.less(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		t.swap(i, least)
		i = least
	}
}

package udx

import (
	"sync"
	"time"
)

// A schedule is the timer loop's list of streams by deadline, a heap. It is lazy:
// a stream whose deadline moves later stays where it is and is looked at in
// vain, which costs less than to move it with every packet.
type schedule struct {
	clock clock

	mu     sync.Mutex // a leaf: taken under Mux.mu and Stream.mu
	heap   []scheduled
	timer  *time.Timer
	wakeAt instant // when the timer fires; 0: not set
	done   chan struct{}
}

type scheduled struct {
	at instant
	s  *Stream
}

func (q *schedule) init(c clock) {
	q.clock = c
	q.timer = time.NewTimer(time.Hour)
	q.timer.Stop()
	q.done = make(chan struct{})
}

func (q *schedule) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-q.done:
	default:
		close(q.done)
	}
	q.timer.Stop()
}

// wait waits for the timer; it returns false when the schedule is closed.
func (q *schedule) wait() bool {
	select {
	case <-q.timer.C:
		return true
	case <-q.done:
		return false
	}
}

// arm makes the loop look at s at the given time at the latest. s is locked.
func (q *schedule) arm(now instant, s *Stream, at instant) {
	if at == 0 || s.armed != 0 && s.armed <= at {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s.armed = at
	if s.slot == 0 {
		q.heap = append(q.heap, scheduled{})
		q.up(len(q.heap)-1, scheduled{at, s})
	} else {
		q.up(s.slot-1, scheduled{at, s})
	}
	q.wake(now, at)
}

// wake sets the timer unless it fires early enough.
func (q *schedule) wake(now, at instant) {
	if q.wakeAt == 0 || at < q.wakeAt {
		q.wakeAt = at
		q.timer.Reset(max(at.sub(now), 0))
	}
}

// due takes the next stream whose time has come, or returns nil. The caller
// resets its armed mark under its lock.
func (q *schedule) due(now instant) *Stream {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.heap) == 0 || q.heap[0].at > now {
		return nil
	}
	s := q.heap[0].s
	q.removeAt(0)
	return s
}

// sleep sets the timer for the next stream, or for other, whichever is earlier.
func (q *schedule) sleep(now, other instant) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wakeAt = 0
	at := other
	if len(q.heap) > 0 {
		at = earliest(at, q.heap[0].at)
	}
	if at != 0 {
		q.wake(now, at)
	}
}

// remindAt makes the loop run at the given time at the latest.
func (q *schedule) remindAt(now, at instant) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wake(now, at)
}

// remove takes a stream out.
func (q *schedule) remove(s *Stream) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.slot > 0 {
		q.removeAt(s.slot - 1)
	}
}

func (q *schedule) removeAt(i int) {
	q.heap[i].s.slot = 0
	n := len(q.heap) - 1
	last := q.heap[n]
	q.heap[n] = scheduled{}
	q.heap = q.heap[:n]
	if i < n {
		if i > 0 && last.at < q.heap[(i-1)/2].at {
			q.up(i, last)
		} else {
			q.down(i, last)
		}
	}
}

// up puts e at index i or where it belongs above.
func (q *schedule) up(i int, e scheduled) {
	for i > 0 {
		parent := (i - 1) / 2
		if q.heap[parent].at <= e.at {
			break
		}
		q.set(i, q.heap[parent])
		i = parent
	}
	q.set(i, e)
}

// down puts e at index i or where it belongs below.
func (q *schedule) down(i int, e scheduled) {
	for {
		child := 2*i + 1
		if child >= len(q.heap) {
			break
		}
		if r := child + 1; r < len(q.heap) && q.heap[r].at < q.heap[child].at {
			child = r
		}
		if e.at <= q.heap[child].at {
			break
		}
		q.set(i, q.heap[child])
		i = child
	}
	q.set(i, e)
}

func (q *schedule) set(i int, e scheduled) {
	q.heap[i] = e
	e.s.slot = i + 1
}

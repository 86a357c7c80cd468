package secretstream

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// stallTime is how long a peer that has begun a frame may send nothing of it.
	stallTime = 30 * time.Second
	// frameRate is how fast a frame must come in the end, in bytes a second: it
	// has stallTime, and as long as its size takes at this rate.
	frameRate = 4 << 10
	// stallTick is how often a reader that waits for the rest of a frame is
	// looked at.
	stallTick = 5 * time.Second
)

// A stallWatch ends a stream whose peer has begun a frame and does not send the
// rest while somebody reads. Reading only notes what it waits for; the timer,
// which runs only while something is missing, looks at that.
type stallWatch struct {
	cut   atomic.Int64 // size of the frame that a reader waits for; 0: for none
	reads atomic.Int64 // of raw, so far
	armed atomic.Bool

	mu      sync.Mutex
	timer   *time.Timer // or nil
	seen    int64       // reads, when last looked at
	seenAt  time.Time   // since when
	whole   uint64      // bytes of whole frames, when last looked at
	wholeAt time.Time
}

// goesOn notes that the reader does not wait for the peer any more.
func (w *stallWatch) goesOn() {
	if w.cut.Load() != 0 {
		w.cut.Store(0)
	}
}

// restart gives the present frame its time anew.
func (w *stallWatch) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seenAt, w.wholeAt = time.Time{}, time.Time{}
}

// waits notes that a reader waits for the rest of a frame of n bytes.
func (w *stallWatch) waits(c *Conn, n int) {
	w.cut.Store(int64(n))
	if !w.armed.Load() && w.armed.CompareAndSwap(false, true) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.timer == nil {
			w.timer = time.AfterFunc(stallTick, func() { w.look(c) })
		} else {
			w.timer.Reset(stallTick)
		}
	}
}

// look runs when the timer fires.
func (w *stallWatch) look(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	cut := w.cut.Load()
	if cut == 0 || c.closed.Load() {
		w.seenAt, w.wholeAt = time.Time{}, time.Time{}
		w.armed.Store(false)
		if cut = w.cut.Load(); cut == 0 || c.closed.Load() || !w.armed.CompareAndSwap(false, true) {
			return
		}
	}
	now := time.Now()
	if n := w.reads.Load(); n != w.seen || w.seenAt.IsZero() {
		w.seen, w.seenAt = n, now
	}
	if n := c.in.bytes.Load(); n != w.whole || w.wholeAt.IsZero() {
		w.whole, w.wholeAt = n, now
	}
	if now.Sub(w.seenAt) >= stallTime-stallTick || now.Sub(w.wholeAt) >= stallTime+time.Duration(cut)*time.Second/frameRate {
		c.in.fail(ErrStalled)
		return
	}
	w.timer.Reset(stallTick)
}

// fail ends the stream from outside of the reader, which returns err.
func (in *input) fail(err error) {
	in.failed.CompareAndSwap(nil, &err)
	in.conn.abort(err)
}

package secretstream

import (
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// frameMemory is what all streams of the process together hold of large
	// frames that have not come in whole, in bytes.
	frameMemory = 6 << 20
	// claimPoll is how often a stream that waits for memory looks again.
	claimPoll = 100 * time.Millisecond
	// claimPatience is how long it waits before it takes the memory of a frame
	// that comes more slowly than slowFrame, in bytes a second.
	claimPatience = 2 * time.Second
	slowFrame     = 32 << 10
	// claimIdle is how long such a frame may bring nothing at all.
	claimIdle = 5 * time.Second
)

// frames is the memory of the process for large frames.
var frames = frameBudget{max: frameMemory}

// A frameBudget shares memory among streams whose peers send frames larger than
// the pooled buffers. Each frame claims all its memory before more than its
// beginning is read, so that frames never wait for each other half way; streams
// that find no room leave what comes in the raw stream, and take turns.
type frameBudget struct {
	mu       sync.Mutex
	max      int // rises with the largest Config.MaxMessage: see allow
	used     int
	claims   map[*input]*claim
	waiting  []*input // the first one is served first
	evicting *claim   // was ended for its slowness and has not let go yet
}

// A claim is the memory of one frame.
type claim struct {
	size  int
	begun time.Time
	got   int64 // bytes, when last looked at
	gotAt time.Time
}

// allow makes room for four of the largest messages that a program has asked for.
func (f *frameBudget) allow(maxFrame int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.max = max(f.max, 4*maxFrame)
}

// try claims memory for a frame of n bytes.
func (f *frameBudget) try(in *input, n int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	n = min(n, f.max)
	if len(f.waiting) > 0 && f.waiting[0] != in || f.used+n > f.max {
		if !slices.Contains(f.waiting, in) {
			f.waiting = append(f.waiting, in)
		}
		return false
	}
	f.leave(in)
	if f.claims == nil {
		f.claims = make(map[*input]*claim)
	}
	f.claims[in] = &claim{size: n, begun: time.Now()}
	f.used += n
	return true
}

// leave takes a stream off the waiting list. The caller holds mu.
func (f *frameBudget) leave(in *input) {
	if i := slices.Index(f.waiting, in); i >= 0 {
		f.waiting = slices.Delete(f.waiting, i, i+1)
	}
}

func (f *frameBudget) giveUp(in *input) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leave(in)
}

// release ends a claim.
func (f *frameBudget) release(in *input) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.claims[in]
	if c == nil {
		return
	}
	delete(f.claims, in)
	f.used -= c.size
	if f.evicting == c {
		f.evicting = nil
	}
}

// slowest picks the stream whose frame comes slowest, if that is too slow while
// others wait, and one at a time.
func (f *frameBudget) slowest(now time.Time) *input {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.evicting != nil {
		return nil
	}
	var victim *input
	slowest := float64(slowFrame)
	for in, c := range f.claims {
		got, age := in.progress.Load(), now.Sub(c.begun)
		if got != c.got || c.gotAt.IsZero() {
			c.got, c.gotAt = got, now
		}
		if age < claimPatience {
			continue
		}
		rate := float64(got) / age.Seconds()
		if now.Sub(c.gotAt) >= claimIdle {
			rate = 0
		}
		if rate < slowest {
			victim, slowest = in, rate
		}
	}
	if victim != nil {
		f.evicting = f.claims[victim]
	}
	return victim
}

// claim waits until there is memory for a frame of n bytes. It heeds Close and
// the read deadline.
func (in *input) claim(n int) error {
	in.progress.Store(0)
	in.stall.goesOn() // it is not the peer that keeps us waiting
	for began := time.Now(); !frames.try(in, n); {
		now := time.Now()
		wait := claimPoll
		var err error
		if in.conn.closed.Load() {
			err = net.ErrClosed
		}
		if at := in.deadline.Load(); at != 0 {
			if wait = min(wait, time.Until(time.Unix(0, at))); wait <= 0 {
				err = os.ErrDeadlineExceeded
			}
		}
		if err != nil {
			frames.giveUp(in)
			return err
		}
		if now.Sub(began) >= claimPatience {
			if v := frames.slowest(now); v != nil {
				v.fail(ErrStalled)
			}
		}
		time.Sleep(wait)
	}
	in.claimed = true
	in.stall.restart() // its time begins now
	return nil
}

// unclaim gives the memory back.
func (in *input) unclaim() {
	if in.claimed {
		in.claimed = false
		frames.release(in)
	}
}

func (in *input) setDeadline(t time.Time) {
	at := int64(0)
	if !t.IsZero() {
		at = t.UnixNano()
	}
	in.deadline.Store(at)
}

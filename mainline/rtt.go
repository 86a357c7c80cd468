package mainline

import "time"

// The bounds of when a query counts as late.
const (
	slowLeast = 250 * time.Millisecond
	slowMost  = time.Second // and before anything is known
)

// An rtt estimates round trips, as TCP does (RFC 6298), over all nodes asked:
// a node that takes longer than almost all others is late. The zero value is
// ready. Guarded by the node's mutex.
type rtt struct {
	smooth, variance time.Duration
}

// sample learns from one answer.
func (r *rtt) sample(d time.Duration) {
	if r.smooth == 0 {
		r.smooth, r.variance = d, d/2
		return
	}
	r.variance += ((r.smooth - d).Abs() - r.variance) / 4
	r.smooth += (d - r.smooth) / 8
}

// patience is how long a walk waits at its end for an answer.
func (r *rtt) patience() time.Duration { return min(4*r.slow(), giveUp) }

// slow is how long an answer may take before it is late.
func (r *rtt) slow() time.Duration {
	if r.smooth == 0 {
		return slowMost
	}
	return min(max(r.smooth+4*r.variance, slowLeast), slowMost)
}

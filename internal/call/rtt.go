package call

import "time"

// An RTT estimates how long answers take, as TCP does (RFC 6298 §2), over all
// that were asked. The zero value has no samples. A value.
type RTT struct{ smooth, variance time.Duration }

// Sample learns from the time that one answer took since the request was first
// transmitted.
func (r *RTT) Sample(d time.Duration) {
	if r.smooth == 0 {
		r.smooth, r.variance = d, d/2
		return
	}
	r.variance += ((r.smooth - d).Abs() - r.variance) / 4
	r.smooth += (d - r.smooth) / 8
}

// Late is the time after which an answer takes longer than almost all others
// have, within bounds; most if nothing is known.
func (r *RTT) Late(least, most time.Duration) time.Duration {
	if r.smooth == 0 {
		return most
	}
	return min(max(r.smooth+4*r.variance, least), most)
}

package udx

import "time"

// Limits of the retransmission timeout and of round-trip samples.
const (
	initialRTO = time.Second            // before any sample (§3.2)
	minRTO     = 300 * time.Millisecond // the reference's is 1 s; see DEVIATIONS.md
	maxRTO     = 30 * time.Second
	maxRTT     = 30 * time.Second
)

// An rttEstimator smooths round-trip samples into the retransmission timeout
// (RFC 6298; docs/spec/udx.md §3.2). A value; the zero value has no sample.
type rttEstimator struct {
	smoothed time.Duration // SRTT; 0: no sample yet
	variance time.Duration // RTTVAR
	latest   time.Duration
	guess    time.Duration // of somebody who knows more, for before any sample; 0: none
}

// sample takes the time between a packet that was sent once and its
// acknowledgement.
func (r *rttEstimator) sample(d time.Duration) {
	d = max(d, 1)
	if r.smoothed == 0 {
		d = min(d, maxRTT)
		r.latest, r.smoothed, r.variance = d, d, d/2
		return
	}
	// §3.2: one wild sample must not lift the timeout by more than a step.
	if limit := r.smoothed + 5*r.variance; d > limit && d > 5*time.Second {
		d = min(limit, maxRTT)
	}
	r.latest = d
	r.variance = (3*r.variance + (r.smoothed - d).Abs()) / 4
	r.smoothed = (7*r.smoothed + d) / 8
}

// timeout is the retransmission timeout, RTO.
func (r *rttEstimator) timeout() time.Duration {
	switch {
	case r.smoothed != 0:
	case r.guess != 0:
		return min(max(3*r.guess, minRTO), initialRTO)
	default:
		return initialRTO
	}
	return min(max(r.smoothed+4*r.variance, minRTO), maxRTO)
}

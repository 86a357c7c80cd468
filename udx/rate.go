package udx

import "time"

// A rateSample says how fast packets were delivered over about the last round
// trip, as one acknowledgement shows it.
type rateSample struct {
	delivered      int64         // packets delivered during the interval; -1: no sample
	priorDelivered int64         // the delivery counter when the interval began
	interval       time.Duration // > 0 if delivered is valid
	appLimited     bool          // the sender had nothing to send for part of it
	inflightAtSend int           // packets in flight when the newest acknowledged one was sent
}

func (s *rateSample) valid() bool { return s.delivered >= 0 && s.interval > 0 }

// packetsPerSecond is the sample's bandwidth.
func (s *rateSample) packetsPerSecond() float64 {
	return float64(s.delivered) / s.interval.Seconds()
}

// A rateSampler measures the delivery rate (draft-cheng-iccrg-delivery-rate-
// estimation; docs/spec/udx.md §3.9). It counts packets. A value owned by a core.
type rateSampler struct {
	delivered     int64   // packets delivered so far
	deliveredTime instant // when delivered last grew
	firstSent     instant // when the packet at the start of the current interval was sent
	appLimited    int64   // the bubble ends when delivered passes this; 0: none

	newest rateState // of the packet sent last among those of the current ack
	sentAt instant
	picked bool
}

// rateState is what a packet remembers of the sampler at its transmission.
type rateState struct {
	delivered     int64
	deliveredTime instant
	firstSent     instant
	inflight      int32
	appLimited    bool
}

func newRateSampler() rateSampler { return rateSampler{appLimited: 1} }

// sent notes a transmission; inflight counts the packets in flight before it.
func (r *rateSampler) sent(now instant, inflight int) rateState {
	if inflight == 0 {
		r.firstSent, r.deliveredTime = now, now
	}
	return rateState{r.delivered, r.deliveredTime, r.firstSent, int32(inflight), r.appLimited != 0}
}

// limited notes that there is less to send than the path would take.
func (r *rateSampler) limited(inflight int) {
	r.appLimited = max(r.delivered+int64(inflight), 1)
}

// acked notes that a packet was delivered.
func (r *rateSampler) acked(now, sentAt instant, st *rateState) {
	r.delivered++
	if !r.picked || sentAt > r.sentAt || sentAt == r.sentAt && st.delivered > r.newest.delivered {
		r.newest, r.sentAt, r.picked = *st, sentAt, true
	}
	r.deliveredTime = now
}

// finish ends an acknowledgement and returns its sample. A sample over less
// than the minimum round trip would overestimate and is discarded.
func (r *rateSampler) finish(now instant, minRTT time.Duration) rateSample {
	if r.appLimited != 0 && r.delivered > r.appLimited {
		r.appLimited = 0
	}
	if !r.picked {
		return rateSample{delivered: -1}
	}
	r.picked = false
	s := rateSample{
		priorDelivered: r.newest.delivered,
		delivered:      r.delivered - r.newest.delivered,
		appLimited:     r.newest.appLimited,
		inflightAtSend: int(r.newest.inflight),
	}
	sendInterval := r.sentAt.sub(r.newest.firstSent)
	r.firstSent = r.sentAt
	s.interval = max(sendInterval, now.sub(r.newest.deliveredTime))
	if s.interval < minRTT || s.interval <= 0 {
		s.delivered, s.interval = -1, 0
	}
	return s
}

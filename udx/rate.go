package udx

import "time"

// A rateSample says how fast packets were delivered over about the last round
// trip, as one acknowledgement shows it.
type rateSample struct {
	delivered      int64         // packets delivered during the interval; -1: no sample
	bytes          int64         // bytes delivered, if delivered is valid
	priorDelivered int64         // the delivery counter when the interval began
	interval       time.Duration // > 0 if delivered is valid
	appLimited     bool          // the sender had nothing to send for part of it
}

func (s *rateSample) valid() bool { return s.delivered >= 0 && s.interval > 0 }

// packetsPerSecond is the sample's bandwidth in packets, whatever their size.
func (s *rateSample) packetsPerSecond() float64 {
	return float64(s.delivered) / s.interval.Seconds()
}

// bytesPerSecond is the sample's bandwidth in bytes.
func (s *rateSample) bytesPerSecond() float64 {
	return float64(s.bytes) / s.interval.Seconds()
}

// A rateSampler measures the delivery rate (draft-cheng-iccrg-delivery-rate-
// estimation; docs/spec/udx.md §3.9). It counts packets, and bytes of IP packets
// beside them. A value owned by a core.
type rateSampler struct {
	delivered     int64   // packets delivered so far
	bytes         int64   // and their bytes, with all headers
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
	bytes         int64
	deliveredTime instant
	firstSent     instant
	appLimited    bool
}

func newRateSampler() rateSampler { return rateSampler{appLimited: 1} }

// sent notes a transmission; inflight counts the packets in flight before it.
func (r *rateSampler) sent(now instant, inflight int) rateState {
	if inflight == 0 {
		r.firstSent, r.deliveredTime = now, now
	}
	return rateState{r.delivered, r.bytes, r.deliveredTime, r.firstSent, r.appLimited != 0}
}

// limited notes that there is less to send than the path would take.
func (r *rateSampler) limited(inflight int) {
	r.appLimited = max(r.delivered+int64(inflight), 1)
}

// acked notes that a packet of the given size was delivered.
func (r *rateSampler) acked(now, sentAt instant, st *rateState, size int) {
	r.delivered++
	r.bytes += int64(size)
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
		bytes:          r.bytes - r.newest.bytes,
		appLimited:     r.newest.appLimited,
	}
	sendInterval := r.sentAt.sub(r.newest.firstSent)
	r.firstSent = r.sentAt
	s.interval = max(sendInterval, now.sub(r.newest.deliveredTime))
	if s.interval < minRTT || s.interval <= 0 {
		s.delivered, s.interval = -1, 0
	}
	return s
}

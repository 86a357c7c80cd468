package dhtrpc

import (
	"net/netip"
	"time"
)

// requestTimeout is how long a transmission waits for its answer
// (docs/spec/dht-rpc.md §5.3).
const requestTimeout = time.Second

// An AdaptiveTimeout makes requests wait as long as their destination's
// measured round trips suggest, instead of one second. Its zero value has the
// reference's defaults. Min bounds it below, so that a slow but living peer is
// not taken for dead. docs/spec/dht-rpc.md §5.5.
type AdaptiveTimeout struct {
	Min, Max time.Duration // 300 ms and 4 s
	// Jitter is the bound, exclusive, of a random addition; 256 ms. Negative:
	// none.
	Jitter time.Duration
	// Fallback is the timeout of each transmission to a destination that was
	// never measured, the last for all further ones; 250 ms, doubling to 4 s.
	Fallback []time.Duration
	// Size bounds the destinations remembered; 65,536. A measurement that is
	// not used for MaxAge is forgotten; 10 min.
	Size   int
	MaxAge time.Duration
}

var defaultFallback = []time.Duration{
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second,
}

func (o AdaptiveTimeout) settled() AdaptiveTimeout {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.Min, 300*time.Millisecond)
	def(&o.Max, 4*time.Second)
	def(&o.Jitter, 256*time.Millisecond)
	def(&o.MaxAge, 10*time.Minute)
	if len(o.Fallback) == 0 {
		o.Fallback = defaultFallback
	}
	if o.Size == 0 {
		o.Size = 65536
	}
	return o
}

// An estimator keeps the round trips of destinations, in whole milliseconds
// and with shifts, as the reference does. Owned by the core.
type estimator struct {
	AdaptiveTimeout
	fresh, old map[netip.AddrPort]roundTrip // two generations
	turned     time.Time                    // when old was fresh last
}

type roundTrip struct{ avg, variance int64 }

func newEstimator(o AdaptiveTimeout, now time.Time) *estimator {
	return &estimator{AdaptiveTimeout: o.settled(), fresh: map[netip.AddrPort]roundTrip{}, turned: now}
}

// get finds a measurement and keeps it in the fresh generation.
func (e *estimator) get(now time.Time, to netip.AddrPort) (roundTrip, bool) {
	if age := (e.MaxAge*2 + 2) / 3; now.Sub(e.turned) >= age {
		if now.Sub(e.turned) >= 2*age {
			e.fresh = nil
		}
		e.turn(now)
	}
	if rt, ok := e.fresh[to]; ok {
		return rt, true
	}
	rt, ok := e.old[to]
	if ok {
		e.set(now, to, rt)
	}
	return rt, ok
}

func (e *estimator) set(now time.Time, to netip.AddrPort, rt roundTrip) {
	if _, ok := e.fresh[to]; !ok && len(e.fresh) >= (e.Size+1)/2 {
		e.turn(now)
	}
	e.fresh[to] = rt
}

func (e *estimator) turn(now time.Time) {
	e.old, e.fresh, e.turned = e.fresh, map[netip.AddrPort]roundTrip{}, now
}

// put takes a measurement: Jacobson's estimate (RFC 6298 §2) with a gain of
// 1/8 and 1/4, in the reference's order.
func (e *estimator) put(now time.Time, to netip.AddrPort, rtt time.Duration) {
	ms := rtt.Milliseconds()
	rt, ok := e.get(now, to)
	if !ok {
		rt = roundTrip{ms, ms >> 1}
	} else {
		rt.variance += (max(rt.avg-ms, ms-rt.avg) - rt.variance) >> 2
		rt.avg += (ms - rt.avg) >> 3
	}
	e.set(now, to, rt)
}

// timeout is how long the attempt-th transmission, from 1, to a destination
// waits. Luck is uniform in [0, 1).
func (e *estimator) timeout(now time.Time, to netip.AddrPort, attempt int, luck float64) time.Duration {
	jitter := time.Duration(0)
	if e.Jitter > 0 {
		jitter = time.Duration(luck * float64(e.Jitter))
	}
	rt, ok := e.get(now, to)
	if !ok {
		return e.Fallback[min(attempt, len(e.Fallback))-1] + jitter
	}
	d := time.Duration((rt.avg+2*rt.variance)*int64(attempt)) * time.Millisecond
	return min(max(d+jitter, e.Min), e.Max)
}

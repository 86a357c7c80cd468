package mainline

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// A limiter is a token bucket for each source of datagrams (an IPv4 address, a
// /64 of IPv6) in a fixed table: sources that fall on the same place share it.
// Private addresses are not limited. Guarded by the node's mutex.
type limiter struct {
	rate  float64 // a second
	burst float64
	seed  maphash.Seed
	slots []bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// limiterSlots is a power of two.
const limiterSlots = 1 << 12

func newLimiter(rate, burst float64) *limiter {
	return &limiter{rate: rate, burst: burst, seed: maphash.MakeSeed()}
}

// allow takes one datagram off a source's bucket, if there is one left.
func (l *limiter) allow(now time.Time, ip netip.Addr) bool { return l.take(now, ip) == 0 }

// take is allow, and returns how long it is until there is one left.
func (l *limiter) take(now time.Time, ip netip.Addr) time.Duration {
	b := l.bucket(now, ip)
	switch {
	case b == nil:
		return 0
	case b.left < 1:
		return l.until(1 - b.left)
	}
	b.left--
	return 0
}

// reserve takes one datagram off a source's bucket even if none is left, and
// returns how long to wait before it may be sent.
func (l *limiter) reserve(now time.Time, ip netip.Addr) time.Duration {
	b := l.bucket(now, ip)
	if b == nil {
		return 0
	}
	b.left--
	if b.left >= 0 {
		return 0
	}
	return l.until(-b.left)
}

// until is how long so many datagrams take to come in; it is not zero.
func (l *limiter) until(n float64) time.Duration {
	return time.Duration(n/l.rate*float64(time.Second)) + 1
}

func (l *limiter) bucket(now time.Time, ip netip.Addr) *bucket {
	if private(ip) {
		return nil
	}
	if l.slots == nil {
		l.slots = make([]bucket, limiterSlots)
	}
	b := &l.slots[maphash.Comparable(l.seed, source(ip))%limiterSlots]
	if b.at.IsZero() {
		b.left = l.burst
	} else {
		b.left = min(l.burst, b.left+now.Sub(b.at).Seconds()*l.rate)
	}
	b.at = now
	return b
}

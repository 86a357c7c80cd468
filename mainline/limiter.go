package mainline

import (
	"hash/maphash"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// A limiter is a token bucket for each source of datagrams (an IPv4 address, a
// /64 of IPv6) in a fixed table: sources that fall on the same place share it.
// Private addresses are not limited. Guarded by the node's mutex.
type limiter struct {
	rate    rate.Limit // a second
	burst   int
	seed    maphash.Seed
	buckets []*rate.Limiter
}

// limiterSize is a power of two.
const limiterSize = 1 << 12

func newLimiter(perSecond, burst int) *limiter {
	return &limiter{rate: rate.Limit(perSecond), burst: burst, seed: maphash.MakeSeed()}
}

// allow takes one datagram off a source's bucket, if there is one left.
func (l *limiter) allow(now time.Time, ip netip.Addr) bool {
	b := l.bucket(ip)
	return b == nil || b.AllowN(now, 1)
}

// take is allow, and returns how long it is until there is one left.
func (l *limiter) take(now time.Time, ip netip.Addr) (wait time.Duration) {
	b := l.bucket(ip)
	if b == nil {
		return 0
	}
	r := b.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// reserve takes one datagram off a source's bucket even if none is left, and
// returns how long to wait before it may be sent.
func (l *limiter) reserve(now time.Time, ip netip.Addr) (wait time.Duration) {
	b := l.bucket(ip)
	if b == nil {
		return 0
	}
	return b.ReserveN(now, 1).DelayFrom(now)
}

// bucket is nil for a source that is not limited.
func (l *limiter) bucket(ip netip.Addr) *rate.Limiter {
	if private(ip) {
		return nil
	}
	if l.buckets == nil {
		l.buckets = make([]*rate.Limiter, limiterSize)
	}
	b := &l.buckets[maphash.Comparable(l.seed, source(ip))%limiterSize]
	if *b == nil {
		*b = rate.NewLimiter(l.rate, l.burst)
	}
	return *b
}

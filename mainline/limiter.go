package mainline

import (
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/warren-dht/warren/internal/bucket"
)

// A limiter is a token bucket for each source of datagrams (an IPv4 address, a
// /64 of IPv6). Private addresses are not limited. Guarded by the node's mutex.
type limiter struct {
	table *bucket.Table[netip.Addr]
}

func newLimiter(perSecond, burst int) *limiter {
	return &limiter{bucket.New[netip.Addr](perSecond, burst)}
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
	return l.table.Of(source(ip))
}

package hyperdht

import (
	"net/netip"
	"time"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/internal/keep"
)

// A recent remembers what happened lately, for a fixed time. When it is full the
// network that it remembers most of loses its oldest event, so that no flood
// from one place makes it forget what it knows of the others.
type recent[K comparable] struct {
	m *keep.Map[K, struct{}, [3]byte] // by /24
}

func newRecent[K comparable](limit int, age time.Duration) recent[K] {
	return recent[K]{keep.NewMap[K, struct{}, [3]byte](keep.Limits{Entries: limit, Age: age}, nil)}
}

// note remembers k for the share of the network that source is in.
func (f *recent[K]) note(now time.Time, k K, source netip.Addr) {
	e := endpointOf(netip.AddrPortFrom(source, 0))
	f.m.Put(now, k, struct{}{}, [3]byte(e[:3]))
}

// has reports whether k is remembered.
func (f *recent[K]) has(now time.Time, k K) bool {
	_, _, ok := f.m.Get(now, k)
	return ok
}

// An endpoint is an IPv4 address and port, as small as it can be.
type endpoint [compact.AddrSize]byte

// endpointOf returns the zero endpoint for an address that is not an IPv4 one.
func endpointOf(a netip.AddrPort) (e endpoint) {
	if ip := a.Addr().Unmap(); ip.Is4() {
		compact.AppendAddr(e[:0], netip.AddrPortFrom(ip, a.Port()))
	}
	return e
}

// A hostBudget allows each host some messages a second, counted in windows of
// one second. Hosts that are not public are not limited.
type hostBudget struct {
	window time.Time
	spent  map[netip.Addr]int
}

const (
	messagesPerHost  = 64
	maxBudgetedHosts = 4096
)

// take reports whether a host may have one more, of so many a second.
func (b *hostBudget) take(now time.Time, host netip.Addr, limit int) bool {
	if isBogon(host) {
		return true
	}
	if now.Sub(b.window) >= time.Second {
		b.window = now
		b.spent = make(map[netip.Addr]int)
	}
	n, known := b.spent[host]
	if n >= limit || !known && len(b.spent) >= maxBudgetedHosts {
		return false
	}
	b.spent[host] = n + 1
	return true
}

package hyperdht

import (
	"net/netip"
	"time"
)

// A recent remembers what happened lately. A ring: the newest displace the
// oldest.
type recent[K comparable] struct {
	ring []recentEvent[K]
	next int
	at   map[K]time.Time
}

type recentEvent[K comparable] struct {
	key K
	at  time.Time
}

// maxRecentEvents bounds a recent.
const maxRecentEvents = 8192

func (f *recent[K]) note(now time.Time, k K) {
	if f.at == nil {
		f.at = map[K]time.Time{}
	}
	if len(f.ring) < maxRecentEvents {
		f.ring = append(f.ring, recentEvent[K]{k, now})
	} else {
		old := f.ring[f.next]
		if f.at[old.key].Equal(old.at) { // else it was noted again later
			delete(f.at, old.key)
		}
		f.ring[f.next] = recentEvent[K]{k, now}
		f.next = (f.next + 1) % maxRecentEvents
	}
	f.at[k] = now
}

// has reports whether k was noted within the time.
func (f *recent[K]) has(now time.Time, k K, within time.Duration) bool {
	at, ok := f.at[k]
	return ok && now.Sub(at) < within
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

func (b *hostBudget) take(now time.Time, host netip.Addr) bool {
	if isBogon(host) {
		return true
	}
	if now.Sub(b.window) >= time.Second {
		b.window = now
		b.spent = make(map[netip.Addr]int)
	}
	n, known := b.spent[host]
	if n >= messagesPerHost || !known && len(b.spent) >= maxBudgetedHosts {
		return false
	}
	b.spent[host] = n + 1
	return true
}

package hyperdht

import (
	"net/netip"
	"time"
)

// forwards remembers which clients' requests were passed on lately. A ring: the
// newest displace the oldest.
type forwards struct {
	ring []forward
	next int
	at   map[forwardKey]time.Time
}

type forwardKey struct {
	tid    uint16
	client netip.AddrPort
}

type forward struct {
	key forwardKey
	at  time.Time
}

const (
	maxForwards = 8192
	forwardTime = 15 * time.Second // requests give up after 4 s; servers may take their time
)

func (f *forwards) note(now time.Time, tid uint16, client netip.AddrPort) {
	k := forwardKey{tid, client}
	if f.at == nil {
		f.at = map[forwardKey]time.Time{}
	}
	if len(f.ring) < maxForwards {
		f.ring = append(f.ring, forward{k, now})
	} else {
		old := f.ring[f.next]
		if f.at[old.key].Equal(old.at) { // else it was noted again later
			delete(f.at, old.key)
		}
		f.ring[f.next] = forward{k, now}
		f.next = (f.next + 1) % maxForwards
	}
	f.at[k] = now
}

func (f *forwards) has(now time.Time, tid uint16, client netip.AddrPort) bool {
	at, ok := f.at[forwardKey{tid, client}]
	return ok && now.Sub(at) < forwardTime
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

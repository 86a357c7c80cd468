package keep

import (
	"net/netip"
	"time"
)

// A pool is what Map and Sets have in common: entries in the order of their
// stamps, the same per source and per network, and these ranked by how much they
// hold (rank.go).
type pool[S comparable, P any] struct {
	limits    Limits
	entries   slab[entry[S, P]]
	all       holding
	sources   slab[source[S]]
	bySource  map[S]ref
	networks  slab[network]
	byNetwork map[uint64]ref
	networkOf func(S) (netip.Prefix, bool) // nil: sources are not grouped
	ranks     [measures][]ref              // heaps of parties, the one that holds most first
	ranked    measure                      // how many of the ranks are in use
	drop      func(*P, S, Reason)          // unlinks an entry from the index
	moved     func(*P, S, S)               // an entry went from one source to another; may be nil
	stats     Stats
}

// An entry is one thing kept. Three lists run through it, oldest first.
type entry[S comparable, P any] struct {
	stamp      int64 // store time in nanoseconds when it was last put or renewed
	size       int32 // in bytes, as its owner says
	source     ref
	prev, next [3]ref // in the list of the pool, of its source, and of its network
	heir       S      // who gets it when source has no room for it
	hasHeir    bool
	payload    P
}

// The lists that run through an entry.
const (
	ofAll = iota
	ofSource
	ofNetwork
)

func newPool[S comparable, P any](limits Limits, drop func(*P, S, Reason)) pool[S, P] {
	if limits.Entries <= 0 {
		panic("BUG: keep: no room")
	}
	p := pool[S, P]{limits: limits, bySource: make(map[S]ref), drop: drop, ranked: byEntries + 1}
	if limits.Bytes > 0 {
		p.ranked = byBytes + 1
	}
	return p
}

// payload is what an entry holds.
func (p *pool[S, P]) payload(r ref) *P { return &p.entries.at(r).payload }

func (p *pool[S, P]) stamp(r ref) time.Time { return time.Unix(0, p.entries.at(r).stamp) }

func (p *pool[S, P]) sourceOf(r ref) S { return p.sources.at(p.entries.at(r).source).id }

// push makes an entry the newest of a list.
func (p *pool[S, P]) push(h *holding, r ref, list int) {
	e := p.entries.at(r)
	e.prev[list], e.next[list] = h.newest, 0
	if h.newest != 0 {
		p.entries.at(h.newest).next[list] = r
	} else {
		h.oldest = r
	}
	h.newest = r
	h.len++
	h.bytes += int64(e.size)
}

func (p *pool[S, P]) unlink(h *holding, r ref, list int) {
	e := p.entries.at(r)
	if e.prev[list] != 0 {
		p.entries.at(e.prev[list]).next[list] = e.next[list]
	} else {
		h.oldest = e.next[list]
	}
	if e.next[list] != 0 {
		p.entries.at(e.next[list]).prev[list] = e.prev[list]
	} else {
		h.newest = e.prev[list]
	}
	e.prev[list], e.next[list] = 0, 0
	h.len--
	h.bytes -= int64(e.size)
}

// expire removes what is too old, and returns how much that was.
func (p *pool[S, P]) expire(now time.Time) int {
	if p.limits.Age <= 0 {
		return 0
	}
	n := 0
	limit := now.UnixNano() - int64(p.limits.Age)
	for r := p.all.oldest; r != 0 && p.entries.at(r).stamp <= limit; r = p.all.oldest {
		p.remove(r, Expired)
		n++
	}
	return n
}

// deadline is when the oldest entry will expire.
func (p *pool[S, P]) deadline() (time.Time, bool) {
	if p.limits.Age <= 0 || p.all.oldest == 0 {
		return time.Time{}, false
	}
	return p.stamp(p.all.oldest).Add(p.limits.Age), true
}

// fits reports whether an entry of so many bytes can be kept at all.
func (p *pool[S, P]) fits(size int) bool { return p.limits.Bytes <= 0 || size <= p.limits.Bytes }

// makeRoom removes what has to go so that the source may add an entry of so
// many bytes, which fits.
func (p *pool[S, P]) makeRoom(id S, size int) {
	quotas := p.limits.PerSource > 0 || p.limits.PerNetwork > 0
	for quotas || p.tooMuch(1, int64(size)) {
		own, party := p.find(id)
		r, why := p.overQuota(own, party), OverQuota
		if r == 0 {
			r, why = p.excess(own, party, 1, int64(size)), Evicted
		}
		if r == 0 {
			return
		}
		p.evict(r, why)
	}
}

// overQuota is the entry that has to go before a source adds one, because the
// source or its network is at its quota; 0 if neither is.
func (p *pool[S, P]) overQuota(own, party ref) ref {
	grouped := party&aNetwork != 0
	if p.networkOf != nil && !grouped {
		return 0
	}
	if q := p.limits.PerSource; q > 0 && own != 0 && int(p.sources.at(own).len) >= q {
		return p.sources.at(own).oldest
	}
	if q := p.limits.PerNetwork; q > 0 && grouped && int(p.holding(party).len) >= q {
		return p.victimOf(party, byEntries, own, 1)
	}
	return 0
}

// excess is the entry that has to go before a source adds entries of so many
// bytes, because there is no room; 0 if there is.
func (p *pool[S, P]) excess(own, party ref, entries, bytes int64) ref {
	switch {
	case !p.tooMuch(entries, bytes):
		return 0
	case int64(p.all.len)+entries > int64(p.limits.Entries):
		return p.victim(byEntries, own, party, entries)
	}
	return p.victim(byBytes, own, party, bytes)
}

// tooMuch reports whether there is no room for so many entries or bytes more.
func (p *pool[S, P]) tooMuch(entries, bytes int64) bool {
	return int64(p.all.len)+entries > int64(p.limits.Entries) ||
		p.limits.Bytes > 0 && p.all.bytes+bytes > int64(p.limits.Bytes)
}

// add adds an entry; there must be room.
func (p *pool[S, P]) add(now time.Time, id S, size int, payload P) ref {
	r, e := p.entries.alloc()
	e.stamp, e.size, e.payload = now.UnixNano(), int32(size), payload
	p.push(&p.all, r, ofAll)
	p.attach(r, id)
	p.stats.Added++
	return r
}

// renew makes an entry the newest.
func (p *pool[S, P]) renew(now time.Time, r ref) {
	e := p.entries.at(r)
	e.stamp = now.UnixNano()
	p.unlink(&p.all, r, ofAll)
	p.push(&p.all, r, ofAll)
	s := p.sources.at(e.source)
	p.unlink(&s.holding, r, ofSource)
	p.push(&s.holding, r, ofSource)
	if s.network != 0 {
		n := p.networks.at(s.network)
		p.unlink(&n.holding, r, ofNetwork)
		p.push(&n.holding, r, ofNetwork)
	}
	p.rerank(p.partyOf(e.source))
}

// claim is renew by a source that puts what is there already. Of two sources
// that want an entry the one that holds less has it and the other is its heir:
// an entry goes only when neither has room for it. So a source cannot draw an
// entry of another into its own holding in order to have it evicted from there.
func (p *pool[S, P]) claim(now time.Time, r ref, id S) {
	p.stats.Replaced++
	e := p.entries.at(r)
	if owner := p.sourceOf(r); owner != id {
		if p.holdsLess(id, owner, 1) && p.withinQuota(id) {
			p.move(r, id)
			if !e.hasHeir || e.heir == id || p.betterHeir(owner, e.heir, id) {
				e.heir, e.hasHeir = owner, true
			}
		} else if !e.hasHeir || p.betterHeir(id, e.heir, owner) {
			e.heir, e.hasHeir = id, true
		}
	}
	p.renew(now, r)
}

// betterHeir reports whether one source shall be the heir of an entry instead of
// another: the one that is not of its owner's party, else the one that holds
// less. What the owner's party has no room for, an heir of that party has none
// for either.
func (p *pool[S, P]) betterHeir(one, other, owner S) bool {
	with, without := p.sameParty(one, owner), p.sameParty(other, owner)
	if with != without {
		return without
	}
	return p.holdsLess(one, other, 0)
}

// resize gives an entry that was just claimed another size, which fits, and
// makes room for it.
func (p *pool[S, P]) resize(r ref, size int) {
	e := p.entries.at(r)
	more := int64(size) - int64(e.size)
	if more == 0 {
		return
	}
	e.size = int32(size)
	p.all.bytes += more
	s := p.sources.at(e.source)
	s.bytes += more
	if s.network != 0 {
		p.networks.at(s.network).bytes += more
	}
	p.rerank(p.partyOf(e.source))
	for {
		r := p.excess(0, 0, 0, 0)
		if r == 0 {
			return
		}
		p.evict(r, Evicted)
	}
}

func (p *pool[S, P]) withinQuota(id S) bool { return p.overQuota(p.find(id)) == 0 }

func (p *pool[S, P]) move(r ref, id S) {
	from := p.sourceOf(r)
	p.detach(r)
	p.attach(r, id)
	if p.moved != nil {
		p.moved(p.payload(r), from, id)
	}
}

// evict takes an entry from its source for want of room: its heir gets it, or
// it goes.
func (p *pool[S, P]) evict(r ref, why Reason) {
	if e := p.entries.at(r); e.hasHeir {
		e.hasHeir = false
		if e.heir != p.sourceOf(r) && p.withinQuota(e.heir) {
			p.move(r, e.heir)
			return
		}
	}
	p.remove(r, why)
}

// remove removes an entry.
func (p *pool[S, P]) remove(r ref, why Reason) {
	p.drop(p.payload(r), p.sourceOf(r), why)
	p.unlink(&p.all, r, ofAll)
	p.detach(r)
	p.entries.release(r)
	switch why {
	case Deleted:
		p.stats.Deleted++
	case Expired:
		p.stats.Expired++
	case Evicted:
		p.stats.Evicted++
	case OverQuota:
		p.stats.OverQuota++
	}
}

func (p *pool[S, P]) snapshot() Stats {
	s := p.stats
	s.Entries, s.Bytes, s.Sources = int(p.all.len), int(p.all.bytes), len(p.bySource)
	return s
}

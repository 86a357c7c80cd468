package keep

import (
	"container/heap"
	"time"
)

// A pool is what Map and Sets have in common: entries in the order of their
// stamps, the same per source, and the sources ordered by how much they hold.
type pool[S comparable, P any] struct {
	limits  Limits
	entries slab[entry[S, P]]
	all     ageList
	sources slab[source[S]]
	bySrc   map[S]ref
	heavy   []ref               // a heap of sources, see Less
	drop    func(*P, S, Reason) // unlinks an entry from the index
	moved   func(*P, S, S)      // an entry went from one source to another; may be nil
	stats   Stats
}

// An entry is one thing kept. Two lists run through it, oldest first.
type entry[S comparable, P any] struct {
	stamp      int64 // wall clock in nanoseconds when it was last put or renewed
	source     ref
	prev, next [2]ref // in pool.all and in source.entries
	heir       S      // who gets it when source has no room for it
	hasHeir    bool
	payload    P
}

const (
	byAge    = 0 // links of pool.all
	bySource = 1 // links of source.entries
)

// An ageList holds entries, the one that was last put or renewed at the end.
type ageList struct {
	oldest, newest ref
	len            int32
}

// A source is whoever asked for entries.
type source[S comparable] struct {
	id      S
	entries ageList
	index   int32 // in pool.heavy
}

func newPool[S comparable, P any](limits Limits, drop func(*P, S, Reason)) pool[S, P] {
	if limits.Entries <= 0 {
		panic("BUG: keep: no room")
	}
	return pool[S, P]{limits: limits, bySrc: make(map[S]ref), drop: drop}
}

// payload is what an entry holds.
func (p *pool[S, P]) payload(r ref) *P { return &p.entries.at(r).payload }

func (p *pool[S, P]) stamp(r ref) time.Time { return time.Unix(0, p.entries.at(r).stamp) }

func (p *pool[S, P]) sourceOf(r ref) S { return p.sources.at(p.entries.at(r).source).id }

func (p *pool[S, P]) push(l *ageList, r ref, link int) {
	e := p.entries.at(r)
	e.prev[link], e.next[link] = l.newest, 0
	if l.newest != 0 {
		p.entries.at(l.newest).next[link] = r
	} else {
		l.oldest = r
	}
	l.newest = r
	l.len++
}

func (p *pool[S, P]) unlink(l *ageList, r ref, link int) {
	e := p.entries.at(r)
	if e.prev[link] != 0 {
		p.entries.at(e.prev[link]).next[link] = e.next[link]
	} else {
		l.oldest = e.next[link]
	}
	if e.next[link] != 0 {
		p.entries.at(e.next[link]).prev[link] = e.prev[link]
	} else {
		l.newest = e.prev[link]
	}
	e.prev[link], e.next[link] = 0, 0
	l.len--
}

// The sources are a heap: the one with most entries first, among equals the one
// whose oldest entry is oldest.

func (p *pool[S, P]) Len() int { return len(p.heavy) }

func (p *pool[S, P]) Less(i, j int) bool {
	a, b := &p.sources.at(p.heavy[i]).entries, &p.sources.at(p.heavy[j]).entries
	return a.len > b.len || a.len == b.len && a.len > 0 &&
		p.entries.at(a.oldest).stamp < p.entries.at(b.oldest).stamp
}

func (p *pool[S, P]) Swap(i, j int) {
	h := p.heavy
	h[i], h[j] = h[j], h[i]
	p.sources.at(h[i]).index, p.sources.at(h[j]).index = int32(i), int32(j)
}

func (p *pool[S, P]) Push(x any) {
	r := x.(ref)
	p.sources.at(r).index = int32(len(p.heavy))
	p.heavy = append(p.heavy, r)
}

func (p *pool[S, P]) Pop() any {
	last := len(p.heavy) - 1
	r := p.heavy[last]
	p.heavy = p.heavy[:last]
	return r
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

// makeRoom removes what has to go so that the source may add an entry.
func (p *pool[S, P]) makeRoom(id S) {
	if q := p.limits.PerSource; q > 0 && p.held(id) >= q {
		p.evict(p.sources.at(p.bySrc[id]).entries.oldest, OverQuota)
	}
	for int(p.all.len) >= p.limits.Entries {
		victim := p.sources.at(p.heavy[0])
		if own := p.bySrc[id]; own != 0 && p.sources.at(own).entries.len+1 > victim.entries.len {
			victim = p.sources.at(own)
		}
		p.evict(victim.entries.oldest, Evicted)
	}
}

// add adds an entry; there must be room.
func (p *pool[S, P]) add(now time.Time, id S, payload P) ref {
	r, e := p.entries.alloc()
	e.stamp, e.payload = now.UnixNano(), payload
	p.push(&p.all, r, byAge)
	p.attach(r, id)
	p.stats.Added++
	return r
}

// renew makes an entry the newest.
func (p *pool[S, P]) renew(now time.Time, r ref) {
	e := p.entries.at(r)
	e.stamp = now.UnixNano()
	p.unlink(&p.all, r, byAge)
	p.push(&p.all, r, byAge)
	s := p.sources.at(e.source)
	p.unlink(&s.entries, r, bySource)
	p.push(&s.entries, r, bySource)
	heap.Fix(p, int(s.index))
}

// claim is renew by a source that puts what is there already. Of two sources
// that want an entry the one that holds less has it and the other is its heir:
// an entry goes only when neither has room for it. So nobody can draw an entry
// of another into his own heap in order to have it evicted from there.
func (p *pool[S, P]) claim(now time.Time, r ref, id S) {
	p.stats.Replaced++
	e := p.entries.at(r)
	if owner := p.sourceOf(r); owner != id {
		switch {
		case p.held(id)+1 < p.held(owner) && p.withinQuota(id):
			p.move(r, id)
			e.heir, e.hasHeir = owner, true
		case !e.hasHeir || p.held(id) < p.held(e.heir):
			e.heir, e.hasHeir = id, true
		}
	}
	p.renew(now, r)
}

// held is how many entries a source has.
func (p *pool[S, P]) held(id S) int {
	if s := p.bySrc[id]; s != 0 {
		return int(p.sources.at(s).entries.len)
	}
	return 0
}

func (p *pool[S, P]) withinQuota(id S) bool {
	return p.limits.PerSource <= 0 || p.held(id) < p.limits.PerSource
}

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
	p.unlink(&p.all, r, byAge)
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

func (p *pool[S, P]) attach(r ref, id S) {
	at := p.bySrc[id]
	if at == 0 {
		var s *source[S]
		at, s = p.sources.alloc()
		s.id = id
		p.bySrc[id] = at
		heap.Push(p, at)
	}
	p.entries.at(r).source = at
	s := p.sources.at(at)
	p.push(&s.entries, r, bySource)
	heap.Fix(p, int(s.index))
}

func (p *pool[S, P]) detach(r ref) {
	at := p.entries.at(r).source
	s := p.sources.at(at)
	p.unlink(&s.entries, r, bySource)
	if s.entries.len > 0 {
		heap.Fix(p, int(s.index))
		return
	}
	heap.Remove(p, int(s.index))
	delete(p.bySrc, s.id)
	p.sources.release(at)
}

func (p *pool[S, P]) snapshot() Stats {
	s := p.stats
	s.Entries, s.Sources = int(p.all.len), len(p.bySrc)
	return s
}

package keep

import (
	"container/heap"
	"time"
)

// A pool is what Map and Sets have in common: entries in the order of their
// stamps, the same per source, and the sources ordered by how much they hold.
type pool[S comparable, P any] struct {
	limits  Limits
	all     ageList[S, P]
	sources map[S]*source[S, P]
	heavy   heaviest[S, P]
	drop    func(*entry[S, P], Reason) // unlinks an entry from the index
	moved   func(*entry[S, P], S)      // an entry left this source; may be nil
	stats   Stats
}

// An entry is one thing kept. Two lists run through it, oldest first.
type entry[S comparable, P any] struct {
	stamp      int64 // wall clock in nanoseconds when it was last put or renewed
	source     *source[S, P]
	prev, next [2]*entry[S, P] // in pool.all and in source.entries
	heir       S               // who gets it when source has no room for it
	hasHeir    bool
	payload    P
}

const (
	byAge    = 0 // links of pool.all
	bySource = 1 // links of source.entries
)

// An ageList holds entries, the one with the oldest stamp first.
type ageList[S comparable, P any] struct {
	oldest, newest *entry[S, P]
	len            int
}

func (l *ageList[S, P]) push(e *entry[S, P], link int) {
	e.prev[link], e.next[link] = l.newest, nil
	if l.newest != nil {
		l.newest.next[link] = e
	} else {
		l.oldest = e
	}
	l.newest = e
	l.len++
}

func (l *ageList[S, P]) remove(e *entry[S, P], link int) {
	if p := e.prev[link]; p != nil {
		p.next[link] = e.next[link]
	} else {
		l.oldest = e.next[link]
	}
	if n := e.next[link]; n != nil {
		n.prev[link] = e.prev[link]
	} else {
		l.newest = e.prev[link]
	}
	e.prev[link], e.next[link] = nil, nil
	l.len--
}

// A source is whoever asked for entries.
type source[S comparable, P any] struct {
	id      S
	entries ageList[S, P]
	index   int // in pool.heavy
}

// heaviest is a heap of the sources: the one with most entries first, among
// equals the one whose oldest entry is oldest.
type heaviest[S comparable, P any] []*source[S, P]

func (h heaviest[S, P]) Len() int { return len(h) }
func (h heaviest[S, P]) Less(i, j int) bool {
	a, b := &h[i].entries, &h[j].entries
	return a.len > b.len || a.len == b.len && a.len > 0 && a.oldest.stamp < b.oldest.stamp
}
func (h heaviest[S, P]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *heaviest[S, P]) Push(x any) {
	s := x.(*source[S, P])
	s.index = len(*h)
	*h = append(*h, s)
}
func (h *heaviest[S, P]) Pop() any {
	old := *h
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return s
}

func newPool[S comparable, P any](limits Limits, drop func(*entry[S, P], Reason)) pool[S, P] {
	if limits.Entries <= 0 {
		panic("BUG: keep: no room")
	}
	return pool[S, P]{limits: limits, sources: make(map[S]*source[S, P]), drop: drop}
}

// expire removes what is too old, and returns how much that was.
func (p *pool[S, P]) expire(now time.Time) int {
	if p.limits.Age <= 0 {
		return 0
	}
	n := 0
	limit := now.UnixNano() - int64(p.limits.Age)
	for e := p.all.oldest; e != nil && e.stamp <= limit; e = p.all.oldest {
		p.remove(e, Expired)
		n++
	}
	return n
}

// deadline is when the oldest entry will expire.
func (p *pool[S, P]) deadline() (time.Time, bool) {
	if p.limits.Age <= 0 || p.all.oldest == nil {
		return time.Time{}, false
	}
	return time.Unix(0, p.all.oldest.stamp).Add(p.limits.Age), true
}

// makeRoom removes what has to go so that the source may add an entry.
func (p *pool[S, P]) makeRoom(id S) {
	own := p.sources[id]
	if q := p.limits.PerSource; q > 0 && own != nil && own.entries.len >= q {
		p.evict(own.entries.oldest, OverQuota)
	}
	for p.all.len >= p.limits.Entries {
		victim := p.heavy[0]
		if own = p.sources[id]; own != nil && own.entries.len+1 > victim.entries.len {
			victim = own
		}
		p.evict(victim.entries.oldest, Evicted)
	}
}

// add adds an entry; there must be room.
func (p *pool[S, P]) add(now time.Time, id S, payload P) *entry[S, P] {
	e := &entry[S, P]{stamp: now.UnixNano(), payload: payload}
	p.all.push(e, byAge)
	p.attach(e, id)
	p.stats.Added++
	return e
}

// renew makes an entry the newest.
func (p *pool[S, P]) renew(now time.Time, e *entry[S, P]) {
	e.stamp = now.UnixNano()
	p.all.remove(e, byAge)
	p.all.push(e, byAge)
	e.source.entries.remove(e, bySource)
	e.source.entries.push(e, bySource)
	heap.Fix(&p.heavy, e.source.index)
}

// claim is renew by a source that puts what is there already. Of two sources
// that want an entry the one that holds less has it and the other is its heir:
// an entry goes only when neither has room for it. So nobody can draw an entry
// of another into his own heap in order to have it evicted from there.
func (p *pool[S, P]) claim(now time.Time, e *entry[S, P], id S) {
	p.stats.Replaced++
	if held := e.source.id; held != id {
		switch {
		case p.held(id)+1 < e.source.entries.len && p.withinQuota(id):
			p.move(e, id)
			e.heir, e.hasHeir = held, true
		case !e.hasHeir || p.held(id) < p.held(e.heir):
			e.heir, e.hasHeir = id, true
		}
	}
	p.renew(now, e)
}

func (p *pool[S, P]) held(id S) int {
	if s := p.sources[id]; s != nil {
		return s.entries.len
	}
	return 0
}

func (p *pool[S, P]) withinQuota(id S) bool {
	return p.limits.PerSource <= 0 || p.held(id) < p.limits.PerSource
}

func (p *pool[S, P]) move(e *entry[S, P], id S) {
	from := e.source.id
	p.detach(e)
	p.attach(e, id)
	if p.moved != nil {
		p.moved(e, from)
	}
}

// evict takes an entry from its source for want of room: its heir gets it, or
// it goes.
func (p *pool[S, P]) evict(e *entry[S, P], why Reason) {
	if e.hasHeir {
		e.hasHeir = false
		if e.heir != e.source.id && p.withinQuota(e.heir) {
			p.move(e, e.heir)
			return
		}
	}
	p.remove(e, why)
}

// remove removes an entry.
func (p *pool[S, P]) remove(e *entry[S, P], why Reason) {
	p.drop(e, why)
	p.all.remove(e, byAge)
	p.detach(e)
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

func (p *pool[S, P]) attach(e *entry[S, P], id S) {
	s := p.sources[id]
	if s == nil {
		s = &source[S, P]{id: id}
		p.sources[id] = s
		heap.Push(&p.heavy, s)
	}
	e.source = s
	s.entries.push(e, bySource)
	heap.Fix(&p.heavy, s.index)
}

func (p *pool[S, P]) detach(e *entry[S, P]) {
	s := e.source
	s.entries.remove(e, bySource)
	if s.entries.len == 0 {
		heap.Remove(&p.heavy, s.index)
		delete(p.sources, s.id)
		return
	}
	heap.Fix(&p.heavy, s.index)
}

func (p *pool[S, P]) snapshot() Stats {
	s := p.stats
	s.Entries, s.Sources = p.all.len, len(p.sources)
	return s
}

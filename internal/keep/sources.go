package keep

import "net/netip"

// A holding is a list of entries, the one that was last put or renewed at the
// end, and what they come to.
type holding struct {
	oldest, newest ref
	len            int32
	index          [measures]int32 // of a party: where it stands in the ranks
	bytes          int64
}

func (h *holding) amount(m measure) int64 {
	if m == byBytes {
		return h.bytes
	}
	return int64(h.len)
}

// A source is who asked for entries.
type source[S comparable] struct {
	holding
	id         S
	network    ref // 0: it has none
	prev, next ref // sources of the network
}

// A network is a group of sources.
type network struct {
	holding
	id      uint64
	members ref // the first
}

// A party is what is ranked: a network, or a source that has none. Its ref is
// that of the one or the other; this bit tells which.
const aNetwork ref = 1 << 31

func (p *pool[S, P]) holding(party ref) *holding {
	if party&aNetwork != 0 {
		return &p.networks.at(party &^ aNetwork).holding
	}
	return &p.sources.at(party).holding
}

func (p *pool[S, P]) partyOf(source ref) ref {
	if n := p.sources.at(source).network; n != 0 {
		return n | aNetwork
	}
	return source
}

// find returns a source and its party, 0 for what holds nothing.
func (p *pool[S, P]) find(id S) (own, party ref) {
	if own = p.bySource[id]; own != 0 {
		return own, p.partyOf(own)
	}
	if p.networkOf != nil {
		if prefix, ok := p.networkOf(id); ok {
			if n := p.byNetwork[pack(prefix)]; n != 0 {
				party = n | aNetwork
			}
		}
	}
	return 0, party
}

// pack makes a number of a network of at most 56 bits, such as an IPv4 /24 and
// an IPv6 /56. It is never 0.
func pack(p netip.Prefix) uint64 {
	n := uint64(p.Bits())
	if p.Bits() > 56 || p.Bits() < 0 {
		panic("BUG: keep: network longer than 56 bits")
	}
	if p.Addr().Is4() {
		for _, b := range p.Addr().As4() {
			n = n<<8 | uint64(b)
		}
		return n | 1<<63 // no IPv6 network has a length of 128 or more
	}
	a := p.Addr().As16()
	for _, b := range a[:7] {
		n = n<<8 | uint64(b)
	}
	return n
}

// holdsLess reports whether one source would hold less than another with so many
// entries more: its network less than the other's if they are of two, else the
// source itself.
func (p *pool[S, P]) holdsLess(one, other S, more int32) bool {
	a, partyA := p.find(one)
	b, partyB := p.find(other)
	if partyA != partyB {
		a, b = partyA, partyB
	}
	return p.len(a)+more < p.len(b)
}

// sameParty reports whether two sources are of one party.
func (p *pool[S, P]) sameParty(one, other S) bool {
	_, a := p.find(one)
	_, b := p.find(other)
	return one == other || a != 0 && a == b
}

// len is how many entries a source or a party holds, which may be none (0).
func (p *pool[S, P]) len(party ref) int32 {
	if party == 0 {
		return 0
	}
	return p.holding(party).len
}

// victim is the entry that goes so that a source may add so much of what is
// short: of the party that holds most, which is the source's own if it would
// hold most then.
func (p *pool[S, P]) victim(m measure, own, party ref, more int64) ref {
	most := p.ranks[m][0]
	if party != 0 && p.holding(party).amount(m)+more > p.holding(most).amount(m) {
		most = party
	}
	return p.victimOf(most, m, own, more)
}

// victimOf is the entry of a party that goes: the oldest of its source that
// holds most, by the same rule.
func (p *pool[S, P]) victimOf(party ref, m measure, own ref, more int64) ref {
	if party&aNetwork == 0 {
		return p.sources.at(party).oldest
	}
	n := p.networks.at(party &^ aNetwork)
	most := &p.sources.at(n.members).holding
	for r := p.sources.at(n.members).next; r != 0; {
		s := p.sources.at(r)
		if p.before(m, &s.holding, most) {
			most = &s.holding
		}
		r = s.next
	}
	if own != 0 && p.sources.at(own).network == party&^aNetwork && p.sources.at(own).amount(m)+more > most.amount(m) {
		most = &p.sources.at(own).holding
	}
	return most.oldest
}

// attach gives an entry to a source.
func (p *pool[S, P]) attach(r ref, id S) {
	at := p.bySource[id]
	isNew := at == 0
	var joined bool
	if isNew {
		at, joined = p.addSource(id)
	}
	p.entries.at(r).source = at
	s := p.sources.at(at)
	p.push(&s.holding, r, ofSource)
	if s.network == 0 {
		if isNew {
			p.enter(at)
		} else {
			p.rerank(at)
		}
		return
	}
	p.push(&p.networks.at(s.network).holding, r, ofNetwork)
	if isNew && !joined {
		p.enter(s.network | aNetwork)
	} else {
		p.rerank(s.network | aNetwork)
	}
}

// addSource adds a source, and reports whether it joined a network that was
// there.
func (p *pool[S, P]) addSource(id S) (at ref, joined bool) {
	at, s := p.sources.alloc()
	s.id = id
	p.bySource[id] = at
	if p.networkOf == nil {
		return at, false
	}
	prefix, ok := p.networkOf(id)
	if !ok {
		return at, false
	}
	key := pack(prefix)
	n := p.byNetwork[key]
	joined = n != 0
	if !joined {
		var w *network
		n, w = p.networks.alloc()
		w.id = key
		p.byNetwork[key] = n
	}
	w := p.networks.at(n)
	s.network, s.next = n, w.members
	if s.next != 0 {
		p.sources.at(s.next).prev = at
	}
	w.members = at
	return at, joined
}

// detach takes an entry from its source. What holds nothing then is forgotten.
func (p *pool[S, P]) detach(r ref) {
	at := p.entries.at(r).source
	s := p.sources.at(at)
	p.unlink(&s.holding, r, ofSource)
	if s.network != 0 {
		w := p.networks.at(s.network)
		p.unlink(&w.holding, r, ofNetwork)
		if w.len > 0 {
			p.rerank(s.network | aNetwork)
		} else {
			p.leave(s.network | aNetwork)
			delete(p.byNetwork, w.id)
			p.networks.release(s.network)
			s.network = 0
		}
	} else if s.len > 0 {
		p.rerank(at)
	} else {
		p.leave(at)
	}
	if s.len > 0 {
		return
	}
	if s.network != 0 {
		if s.prev != 0 {
			p.sources.at(s.prev).next = s.next
		} else {
			p.networks.at(s.network).members = s.next
		}
		if s.next != 0 {
			p.sources.at(s.next).prev = s.prev
		}
	}
	delete(p.bySource, s.id)
	p.sources.release(at)
}

package keep

// A measure is a way to say how much a party holds.
type measure int

// The measures.
const (
	byEntries measure = iota
	byBytes
	measures
)

// The parties are a heap for each measure in use: the one that holds most first,
// among equals the one whose oldest entry is oldest.

func (p *pool[S, P]) before(m measure, a, b *holding) bool {
	x, y := a.amount(m), b.amount(m)
	return x > y || x == y && x > 0 && p.entries.at(a.oldest).stamp < p.entries.at(b.oldest).stamp
}

// enter adds a party to the ranks.
func (p *pool[S, P]) enter(party ref) {
	for m := range p.ranked {
		p.ranks[m] = append(p.ranks[m], party)
		p.up(m, len(p.ranks[m])-1, party)
	}
}

// rerank puts a party where it belongs after its holding has changed.
func (p *pool[S, P]) rerank(party ref) {
	for m := range p.ranked {
		p.settle(m, int(p.holding(party).index[m]), party)
	}
}

// leave removes a party from the ranks.
func (p *pool[S, P]) leave(party ref) {
	for m := range p.ranked {
		at, last := int(p.holding(party).index[m]), len(p.ranks[m])-1
		moved := p.ranks[m][last]
		p.ranks[m] = p.ranks[m][:last]
		if at < last {
			p.settle(m, at, moved)
		}
	}
}

// settle puts a party into a place of a heap from which it may have to move.
func (p *pool[S, P]) settle(m measure, i int, party ref) {
	if p.up(m, i, party) == i {
		p.down(m, i, party)
	}
}

func (p *pool[S, P]) place(m measure, i int, party ref, h *holding) {
	p.ranks[m][i] = party
	h.index[m] = int32(i)
}

// up puts a party into a place or above it, and returns where.
func (p *pool[S, P]) up(m measure, i int, party ref) int {
	h := p.holding(party)
	for i > 0 {
		above := (i - 1) / 2
		a := p.holding(p.ranks[m][above])
		if !p.before(m, h, a) {
			break
		}
		p.place(m, i, p.ranks[m][above], a)
		i = above
	}
	p.place(m, i, party, h)
	return i
}

// down puts a party into a place or below it.
func (p *pool[S, P]) down(m measure, i int, party ref) {
	h := p.holding(party)
	rank := p.ranks[m]
	for {
		below := 2*i + 1
		if below >= len(rank) {
			break
		}
		b := p.holding(rank[below])
		if below+1 < len(rank) {
			if c := p.holding(rank[below+1]); p.before(m, c, b) {
				below, b = below+1, c
			}
		}
		if !p.before(m, b, h) {
			break
		}
		p.place(m, i, rank[below], b)
		i = below
	}
	p.place(m, i, party, h)
}

package kad

import (
	"net/netip"
	"slices"
)

// A host with thousands of ports is thousands of nodes, and has one near every
// target. So a lookup that limits subnets gives each network ([Subnet]) a share
// of its result, and of its requests, as long as others answer.

const (
	// maxClaimed bounds the contacts of one network that are asked because nodes
	// of one network named them: each may be a little nearer than the last.
	maxClaimed = 8
	// maxReserve bounds the contacts that are asked last, and reserveAsked times
	// k how many of them are asked.
	maxReserve   = 256
	reserveAsked = 4
)

// shares is the part of a lookup that sees to it.
type shares[T ID] struct {
	share   int // of one network among the k closest; 0: no limit
	counts  map[netip.Prefix]int
	extra   []Contact[T]    // answered, beyond their network's share; nearest first, as many as closest lacks
	reserve []*candidate[T] // to be asked if fewer than k others answer; nearest first
	spent   int             // contacts of the reserve that were asked
	claims  map[claim]*claimed
	namers  map[netip.Prefix]*namer
	pending map[netip.Prefix]int // contacts that hold a claim, by network
}

// A place says why a contact waits where it does.
type place uint8

const (
	ordinary place = iota
	crowded        // in the reserve: its network has its share
	doubtful       // in the reserve: it was offered so
)

// A claim is what the nodes of one network say about another. It is limited by
// both, so that an attacker who names addresses that do not exist in the
// networks of honest nodes does not use up what others may name there.
type claim struct {
	of, by netip.Prefix // by is invalid for seeds, and nodes that are not public
}

type claimed struct {
	pending int // wait, or are being asked
	total   int // and those that were asked
}

// A namer is a network as far as those count that its nodes alone have named.
type namer struct {
	late     int // or down
	answered int
}

// maxLate is how many that a network has named may be late before it is asked
// what share of them was.
const maxLate = 4

// misleads tells whether what the network names is mostly dead.
func (n *namer) misleads() bool { return n != nil && n.late >= maxLate && n.late > n.answered }

// namerOf is the network of a referrer; nil for seeds, and nodes that are not
// public.
func (l *Lookup[T]) namerOf(by netip.Prefix) *namer {
	if !by.IsValid() {
		return nil
	}
	n := l.namers[by]
	if n == nil {
		n = &namer{}
		l.namers[by] = n
	}
	return n
}

// LimitSubnets gives each public network ([Subnet]) a share of so many contacts
// among the k closest; 0 is no limit, which is the default. The nearest of a
// network get it. Others of that network are asked, and are among the closest,
// only if fewer than k nodes answer otherwise, so that lookups work within one
// network too. So are nodes that only a network names whose other ones are mostly
// late. Call it before the first Offer.
func (l *Lookup[T]) LimitSubnets(share int) {
	l.share = share
	if share > 0 && l.counts == nil {
		l.counts = map[netip.Prefix]int{}
		l.claims = map[claim]*claimed{}
		l.namers = map[netip.Prefix]*namer{}
		l.pending = map[netip.Prefix]int{}
	}
}

// Crowded tells whether nodes beyond the share of their network are among the
// closest, since too few others have answered so far.
func (l *Lookup[T]) Crowded() bool { return len(l.extra) > 0 }

// subnet is the network that an address is limited with, invalid if it is not.
func (l *Lookup[T]) subnet(a netip.Addr) (subnet netip.Prefix) {
	if l.share > 0 {
		subnet, _ = Subnet(a)
	}
	return subnet
}

// improves tells whether a node that is near enough would be among the k
// closest within the share of its network.
func (l *Lookup[T]) improves(x *candidate[T]) bool {
	if !x.subnet.IsValid() || l.counts[x.subnet] < l.share {
		return l.nearEnough(x.ID)
	}
	return Compare(l.target, x.ID, l.closest[l.farthestOf(x.subnet)].ID) < 0
}

// farthestOf finds the farthest of a network among the closest.
func (l *Lookup[T]) farthestOf(subnet netip.Prefix) int {
	for i := len(l.closest) - 1; i >= 0; i-- {
		if subnet.Contains(l.closest[i].Addr.Addr()) {
			return i
		}
	}
	panic("BUG: kad: a network's share is counted wrongly")
}

// take puts a node that has answered where it belongs.
func (l *Lookup[T]) take(c Contact[T]) {
	if _, found := l.find(l.closest, c.ID); found {
		return
	}
	subnet := l.subnet(c.Addr.Addr())
	if subnet.IsValid() {
		if l.counts[subnet] >= l.share {
			i := l.farthestOf(subnet)
			if Compare(l.target, c.ID, l.closest[i].ID) > 0 {
				l.takeExtra(c)
				return
			}
			far := l.closest[i]
			l.closest = slices.Delete(l.closest, i, i+1)
			l.counts[subnet]--
			defer l.takeExtra(far)
		}
		l.counts[subnet]++
	}
	i, _ := l.find(l.closest, c.ID)
	if l.closest = slices.Insert(l.closest, i, c); len(l.closest) > l.k {
		if subnet := l.subnet(l.closest[l.k].Addr.Addr()); subnet.IsValid() {
			l.counts[subnet]--
		}
		l.closest = l.closest[:l.k]
	}
	l.extra = l.extra[:min(len(l.extra), l.k-len(l.closest))]
}

// takeExtra remembers a node beyond its network's share, if the result has room.
func (l *Lookup[T]) takeExtra(c Contact[T]) {
	if i, found := l.find(l.extra, c.ID); !found {
		l.extra = slices.Insert(l.extra, i, c)
		l.extra = l.extra[:min(len(l.extra), l.k-len(l.closest))]
	}
}

func (l *Lookup[T]) find(list []Contact[T], id T) (int, bool) {
	return slices.BinarySearchFunc(list, id, func(c Contact[T], id T) int {
		return Compare(l.target, c.ID, id)
	})
}

// fills tells whether a node would be among the k closest since too few others
// have answered.
func (l *Lookup[T]) fills(id T) bool {
	room := l.k - len(l.closest)
	return room > 0 && (len(l.extra) < room || Compare(l.target, id, l.extra[room-1].ID) < 0)
}

// admit lets a contact that improves the result wait among the ordinary ones if
// its network has a claim free, or a farther one of the same claim gives way. It
// must not have one yet.
func (l *Lookup[T]) admit(x *candidate[T], referrer netip.AddrPort) bool {
	if l.stopped || !l.nearEnough(x.ID) {
		return false
	}
	c := claim{of: x.subnet}
	if referrer.IsValid() {
		c.by = l.subnet(referrer.Addr())
	}
	if x.namer = l.namerOf(c.by); x.namer.misleads() {
		return false
	}
	if !x.subnet.IsValid() {
		return true
	}
	if !l.improves(x) {
		return false
	}
	h := l.claims[c]
	if h == nil {
		h = &claimed{}
		l.claims[c] = h
	}
	if h.total >= maxClaimed || h.pending >= l.share || l.pending[x.subnet] >= 2*l.share {
		far := l.farthestWaiting(h)
		if far < 0 || Compare(l.target, x.ID, l.waiting[far].ID) > 0 {
			return false
		}
		y := l.waiting[far]
		l.waiting = slices.Delete(l.waiting, far, far+1)
		l.release(y)
		l.keep(y)
	}
	h.pending++
	h.total++
	l.pending[x.subnet]++
	x.claim = h
	return true
}

// farthestWaiting finds the farthest contact that waits under a claim.
func (l *Lookup[T]) farthestWaiting(h *claimed) int {
	if h.pending == 0 {
		return -1
	}
	for i := len(l.waiting) - 1; i >= 0; i-- {
		if l.waiting[i].claim == h {
			return i
		}
	}
	return -1
}

// readmit lets a contact wait on if another node has named it.
func (l *Lookup[T]) readmit(x *candidate[T]) bool {
	for _, by := range x.referrers {
		if l.admit(x, by) {
			return true
		}
	}
	return false
}

// release gives back the claim that a contact holds.
func (l *Lookup[T]) release(x *candidate[T]) {
	if x.claim != nil {
		x.claim.pending--
		if x.state == waiting || x.state == dropped {
			x.claim.total--
		}
		if l.pending[x.subnet]--; l.pending[x.subnet] == 0 {
			delete(l.pending, x.subnet)
		}
		x.claim = nil
	}
}

// keep puts a contact into the reserve, the farthest give way.
func (l *Lookup[T]) keep(x *candidate[T]) {
	if x.place == ordinary {
		x.place = crowded
	}
	if l.reserve = l.sorted(l.reserve, x); len(l.reserve) > maxReserve {
		last := len(l.reserve) - 1
		far := l.reserve[last]
		l.reserve[last] = nil
		l.reserve = l.reserve[:last]
		l.drop(far)
	}
}

// unreserve takes a contact out of the reserve.
func (l *Lookup[T]) unreserve(x *candidate[T]) {
	if i := slices.Index(l.reserve, x); i >= 0 {
		l.reserve = slices.Delete(l.reserve, i, i+1)
	}
}

// promote lets the nearest contact of the reserve wait that may now that one of
// its network has answered, or has not.
func (l *Lookup[T]) promote(subnet netip.Prefix) {
	for _, x := range l.reserve {
		if x.place != crowded || x.subnet != subnet {
			continue
		}
		if len(x.referrers) == 0 && l.admit(x, netip.AddrPort{}) || l.readmit(x) {
			l.unreserve(x)
			l.queue(x)
			return
		}
	}
}

// headOfReserve is the contact of the reserve to ask next, nil if there is none,
// or if those that are being asked may do without.
func (l *Lookup[T]) headOfReserve() *candidate[T] {
	if len(l.closest)+l.inflight-l.late >= l.k || l.spent >= reserveAsked*l.k {
		return nil
	}
	for len(l.reserve) > 0 {
		if x := l.reserve[0]; l.improves(x) || l.fills(x.ID) {
			return x
		}
		x := l.reserve[0]
		l.reserve = slices.Delete(l.reserve, 0, 1)
		l.drop(x)
	}
	return nil
}

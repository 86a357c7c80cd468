package kad

import (
	"net/netip"
	"slices"
)

// maxWaiting bounds the contacts of a lookup that wait to be asked; the
// farthest give way. maxSeen bounds all that it remembers: a lookup that met so
// many addresses is being led astray and takes no more.
const (
	maxWaiting   = 256
	maxSeen      = 4096
	maxReferrers = 8
)

// A Lookup is an iterative search for the k nodes closest to a target: it says
// whom to ask next and takes what came of it. It asks nobody itself.
//
//	for {
//		for c, ok := l.Next(); ok; c, ok = l.Next() { send a request to c }
//		if l.Done() { break }
//		wait for: a reply  → l.Answered, and l.Offer for each contact in it
//		          its time → l.Slow
//		          the end  → l.Down
//	}
//
// Contacts are asked nearest first, at most alpha at a time. One that is late
// ([Lookup.Slow]) no longer counts among the alpha, and does not hold up the
// end once k have answered. A contact that cannot improve the result any more
// is not asked. With [Lookup.LimitSubnets], contacts of one network get a share
// of the result.
//
// Not safe for concurrent use.
type Lookup[T ID] struct {
	target   T
	k, alpha int
	waiting  []*candidate[T] // nearest first
	seen     map[netip.AddrPort]*candidate[T]
	closest  []Contact[T] // nearest first, at most k, answered with a valid id
	inflight int          // asked, no answer yet, late ones included
	late     int
	stopped  bool
	shares[T]

	// Answers and Failures count what came back: replies, and requests that
	// came to nothing or to an error.
	Answers, Failures int
}

type candidate[T ID] struct {
	Contact[T]
	state     candidateState
	place     place
	referrers []netip.AddrPort
	subnet    netip.Prefix // invalid: not limited
	claim     *claimed     // that it counts for while it waits or is asked, nil: none
	namer     *namer       // that it counts for when it has been asked, nil: none
}

type candidateState uint8

const (
	waiting candidateState = iota
	asked
	late // asked, and its first timeout has passed
	answered
	down
	dropped // farther than all that matters; may be offered again
)

// NewLookup starts a lookup for the k nodes closest to target with at most
// alpha requests under way.
func NewLookup[T ID](target T, k, alpha int) *Lookup[T] {
	return &Lookup[T]{target: target, k: k, alpha: alpha, seen: map[netip.AddrPort]*candidate[T]{}}
}

// Target is what the lookup searches for.
func (l *Lookup[T]) Target() T { return l.target }

// SetAlpha changes how many requests may be under way from now on.
func (l *Lookup[T]) SetAlpha(alpha int) { l.alpha = alpha }

// Inflight is the number of requests under way, late ones included.
func (l *Lookup[T]) Inflight() int { return l.inflight }

// Waiting is the number of contacts that wait to be asked.
func (l *Lookup[T]) Waiting() int { return len(l.waiting) + len(l.reserve) }

// Closest is the result so far: the nodes that answered with a valid id,
// nearest first, at most k. With [Lookup.LimitSubnets], nodes beyond the share
// of their network are among them only if fewer than k others have answered.
// The slice is the lookup's own.
func (l *Lookup[T]) Closest() []Contact[T] {
	if len(l.extra) == 0 {
		return l.closest
	}
	all := slices.Concat(l.closest, l.extra)
	slices.SortFunc(all, func(a, b Contact[T]) int { return Compare(l.target, a.ID, b.ID) })
	return all
}

// An Offering says what became of an [Lookup.Offer].
type Offering int

const (
	Added     Offering = iota // it waits to be asked
	Seen                      // it is waiting, asked or has answered already
	KnownDown                 // it was asked and did not answer
	Farther                   // it cannot improve the result, or there is no room
)

// Offer names a contact that may be asked. The referrer is the node that named
// it, the zero value if it is a seed of our own.
func (l *Lookup[T]) Offer(c Contact[T], referrer netip.AddrPort) Offering {
	return l.offer(c, referrer, ordinary)
}

// OfferLast names a contact that is asked only if the others do not make k, such
// as one that did not answer lately.
func (l *Lookup[T]) OfferLast(c Contact[T], referrer netip.AddrPort) Offering {
	return l.offer(c, referrer, doubtful)
}

func (l *Lookup[T]) offer(c Contact[T], referrer netip.AddrPort, where place) Offering {
	x := l.seen[c.Addr]
	if x != nil && x.state != dropped {
		switch x.state {
		case down:
			return KnownDown
		case waiting, asked, late:
			x.refer(referrer)
		}
		if x.state == waiting && x.place == crowded && l.admit(x, referrer) {
			l.unreserve(x)
			l.queue(x)
		}
		return Seen
	}
	if l.stopped || !l.nearEnough(c.ID) {
		return Farther
	}
	if x == nil {
		if len(l.seen) >= maxSeen {
			return Farther
		}
		x = &candidate[T]{}
		l.seen[c.Addr] = x
	}
	x.Contact, x.state, x.place = c, waiting, where
	x.subnet = l.subnet(c.Addr.Addr())
	x.refer(referrer)
	switch {
	case where == ordinary && l.admit(x, referrer):
		l.queue(x)
	case len(l.closest) < l.k || where == ordinary && l.improves(x):
		l.keep(x)
	default:
		x.place = crowded
		l.drop(x)
	}
	if x.state == dropped {
		return Farther
	}
	return Added
}

// queue lets a contact wait in the order of its distance.
func (l *Lookup[T]) queue(x *candidate[T]) {
	x.place = ordinary
	l.waiting = l.sorted(l.waiting, x)
	if len(l.waiting) > maxWaiting {
		last := len(l.waiting) - 1
		far := l.waiting[last]
		l.waiting[last] = nil
		l.waiting = l.waiting[:last]
		l.drop(far)
	}
}

// sorted inserts a contact into a list that is sorted by distance.
func (l *Lookup[T]) sorted(list []*candidate[T], x *candidate[T]) []*candidate[T] {
	i, _ := slices.BinarySearchFunc(list, x.ID, func(y *candidate[T], id T) int {
		return Compare(l.target, y.ID, id)
	})
	return slices.Insert(list, i, x)
}

// drop forgets that a contact waits; it may be offered again.
func (l *Lookup[T]) drop(x *candidate[T]) {
	x.state = dropped
	l.release(x)
	if x.place != ordinary {
		delete(l.seen, x.Addr) // an attacker has thousands of them
	}
}

// Next returns the contact to ask now, and counts it as asked. ok is false if
// nobody may be asked before something comes back.
func (l *Lookup[T]) Next() (c Contact[T], ok bool) {
	if l.stopped || l.inflight-l.late >= l.alpha {
		return c, false
	}
	x := l.head()
	if x == nil {
		return c, false
	}
	if x.place == ordinary {
		l.waiting = slices.Delete(l.waiting, 0, 1)
	} else {
		l.reserve = slices.Delete(l.reserve, 0, 1)
		l.spent++
	}
	x.state = asked
	l.inflight++
	return x.Contact, true
}

// head is the contact to ask next, nil if there is none: the nearest that
// improves the result, or if fewer than k can be had of those, one of the
// reserve.
func (l *Lookup[T]) head() *candidate[T] {
	for len(l.waiting) > 0 {
		x := l.waiting[0]
		if !l.nearEnough(x.ID) { // nor are those behind it
			l.dropWaiting()
			break
		}
		useful := l.improves(x)
		if useful && !x.namer.misleads() {
			return x
		}
		// Its network has had its share meanwhile, or it is named by liars.
		l.waiting = slices.Delete(l.waiting, 0, 1)
		l.release(x)
		if useful && l.readmit(x) {
			l.queue(x)
		} else {
			l.keep(x)
		}
	}
	return l.headOfReserve()
}

// Slow says that the contact has not answered within the first timeout; its
// request goes on.
func (l *Lookup[T]) Slow(addr netip.AddrPort) {
	if x := l.seen[addr]; x != nil && x.state == asked {
		x.state = late
		l.late++
		if x.namer != nil {
			x.namer.late++
		}
	}
}

// Answered says that the contact asked at addr replied. If valid, the reply
// proved that the node's id is id, and it counts for the result. It reports
// whether the answer was awaited.
func (l *Lookup[T]) Answered(addr netip.AddrPort, id T, valid bool) bool {
	if !l.settle(addr, answered) {
		return false
	}
	l.Answers++
	if valid && !l.stopped && l.nearEnough(id) {
		l.take(Contact[T]{ID: id, Addr: addr})
	}
	return true
}

// Refused says that the contact replied with an error: it lives, and does not
// count for the result.
func (l *Lookup[T]) Refused(addr netip.AddrPort) {
	if l.settle(addr, answered) {
		l.Failures++
	}
}

// Down says that the contact never answered. It returns who named it.
func (l *Lookup[T]) Down(addr netip.AddrPort) (referrers []netip.AddrPort) {
	if !l.settle(addr, down) {
		return nil
	}
	l.Failures++
	return l.seen[addr].referrers
}

// Stop ends the lookup: nobody is asked any more, answers no longer change the
// result, and it is done.
func (l *Lookup[T]) Stop() {
	l.stopped = true
	l.dropWaiting()
}

// Done tells whether the lookup has ended: nobody is left to ask, and nothing
// under way can matter any more.
func (l *Lookup[T]) Done() bool {
	return l.stopped || l.OnlyLate() && (l.inflight == 0 || len(l.closest)+len(l.extra) == l.k)
}

// OnlyLate tells whether nothing keeps the lookup from its end but nodes that
// are late to answer.
func (l *Lookup[T]) OnlyLate() bool {
	return l.inflight == l.late && (l.stopped || l.head() == nil)
}

// settle ends the request to addr, if one is under way.
func (l *Lookup[T]) settle(addr netip.AddrPort, end candidateState) bool {
	x := l.seen[addr]
	if x == nil || x.state != asked && x.state != late {
		return false
	}
	if x.namer != nil {
		switch {
		case x.state == late && end == answered:
			x.namer.late--
			x.namer.answered++
		case end == answered:
			x.namer.answered++
		case x.state == asked:
			x.namer.late++
		}
	}
	if x.state == late {
		l.late--
	}
	l.inflight--
	x.state = end
	if x.claim != nil {
		l.release(x)
		l.promote(x.subnet)
	}
	return true
}

// nearEnough tells whether a node with that id would be among the k closest if
// networks had no share.
func (l *Lookup[T]) nearEnough(id T) bool {
	return len(l.closest) < l.k || Compare(l.target, id, l.closest[len(l.closest)-1].ID) < 0
}

func (l *Lookup[T]) dropWaiting() {
	for _, list := range [...][]*candidate[T]{l.waiting, l.reserve} {
		for _, x := range list {
			l.drop(x)
		}
		clear(list)
	}
	l.waiting, l.reserve = l.waiting[:0], l.reserve[:0]
}

func (x *candidate[T]) refer(by netip.AddrPort) {
	if by.IsValid() && len(x.referrers) < maxReferrers && !slices.Contains(x.referrers, by) {
		x.referrers = append(x.referrers, by)
	}
}

package hyperdht

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/warren-dht/warren/kad"
)

// handshakeGrace is how long at least a handshake keeps its slot although another
// client wants it, and at most twice that: a client that is answered meanwhile,
// and takes its next step, keeps the slot for good. With as many slots it bounds
// how many handshakes are begun in a second, and so the key exchanges, whatever
// the rate of a flood. The clients that find no slot repeat their message; since
// they do so at fixed intervals the times differ, or slots would be free in
// bursts that one client misses each time.
const handshakeGrace = 160 * time.Millisecond

// handshakeSlots bounds the incoming handshakes in progress on a node, over all
// its listeners. Safe for concurrent use.
//
// A handshake has a source: the relay of ours that it comes through, or the
// network of a client that asks us directly. Clients are told apart by their
// network, too. When the slots are taken:
//
//   - Those who come directly, from addresses that may be forged, have one half
//     of the slots, and those who come through our relays the other.
//   - The source that holds most gives way, and of a source's the client that
//     holds most, if that is at least two more than the newcomer holds.
//   - Else a newcomer that holds nothing takes the oldest slot of one that has
//     not shown yet that it got our answer, after handshakeGrace.
//
// So no source shuts out the others, and no client the others that come through
// the same relay.
//
// A handshake that had to give way is counted until its work has ended, against
// a bound of its own.
type handshakeSlots struct {
	mu             sync.Mutex
	max, perSource int
	used           map[*serverHandshake]*slot
	all            []*slot // used, in no order: it is gone through for each message of a flood
	bySource       map[netip.Addr]*tally
	byClient       map[slotOwner]*tally
	direct         int                           // slots of those who came directly
	leaving        map[*serverHandshake]struct{} // displaced, and still at work
}

// A slotOwner is who a handshake is counted for.
type slotOwner struct {
	source, client netip.Addr
	direct         bool // not through a relay of ours
}

// ownerOf returns whose a handshake is that came from an address, for a client.
// ours says that from is one of our relays.
func ownerOf(from, client netip.Addr, ours bool) slotOwner {
	if ours {
		return slotOwner{source: from, client: networkOf(client)}
	}
	return slotOwner{source: networkOf(from), client: networkOf(client), direct: true}
}

// networkOf is the first address of a public host's network ([kad.Subnet]); other
// addresses stand for themselves.
func networkOf(a netip.Addr) netip.Addr {
	if p, public := kad.Subnet(a); public {
		return p.Addr()
	}
	return a.Unmap()
}

type slot struct {
	owner   slotOwner
	h       *serverHandshake
	at      int       // in all
	source  *tally    // of the owner's source
	client  *tally    // of the owner
	since   time.Time // it was taken, or the handshake was answered
	grace   time.Duration
	stepped bool // the client has shown that it got our answer
}

// A tally is how many slots an owner holds; nil is none.
type tally struct{ n int }

func (t *tally) held() int {
	if t == nil {
		return 0
	}
	return t.n
}

func count[K comparable](m map[K]*tally, k K) *tally {
	t := m[k]
	if t == nil {
		t = new(tally)
		m[k] = t
	}
	t.n++
	return t
}

func uncount[K comparable](m map[K]*tally, k K) {
	if m[k].n--; m[k].n == 0 {
		delete(m, k)
	}
}

func (s *handshakeSlots) init(max, perSource int) {
	s.max, s.perSource = max, perSource
	s.used = map[*serverHandshake]*slot{}
	s.bySource = map[netip.Addr]*tally{}
	s.byClient = map[slotOwner]*tally{}
	s.leaving = map[*serverHandshake]struct{}{}
}

// maxLeaving bounds the displaced handshakes that are still at work.
func (s *handshakeSlots) maxLeaving() int { return max(s.max/4, 1) }

// take gives h a slot. If another one had to make room it is returned, to be
// aborted.
func (s *handshakeSlots) take(now time.Time, h *serverHandshake, o slotOwner) (displaced *serverHandshake, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sourceFull := !isBogon(o.source) && s.bySource[o.source].held() >= s.perSource
	if sourceFull || len(s.used) >= s.max {
		if len(s.leaving) >= s.maxLeaving() {
			return nil, false
		}
		if displaced = s.victim(now, o, sourceFull); displaced == nil {
			return nil, false
		}
		s.release(displaced)
		s.leaving[displaced] = struct{}{}
	}
	sl := &slot{
		owner: o, h: h, at: len(s.all), since: now, grace: handshakeGrace + rand.N(handshakeGrace),
		source: count(s.bySource, o.source), client: count(s.byClient, o),
	}
	s.used[h] = sl
	s.all = append(s.all, sl)
	if o.direct {
		s.direct++
	}
	return displaced, true
}

// victim is the handshake that gives way to a newcomer, nil if none has to.
func (s *handshakeSlots) victim(now time.Time, o slotOwner, sourceFull bool) *serverHandshake {
	if !sourceFull {
		direct := s.direct
		if o.direct {
			direct++
		}
		half := direct > s.max/2 // which of the two has more than its half
		in := func(sl *slot) bool { return sl.owner.direct == half }
		most, own := s.most(in, (*slot).ofSource), s.bySource[o.source].held()
		switch {
		case o.direct != half || most > own+1:
			return s.greediest(func(sl *slot) bool { return in(sl) && sl.ofSource() == most })
		case own == 0:
			return s.oldest(func(sl *slot) bool { return in(sl) && sl.idle(now) })
		}
	}
	in := func(sl *slot) bool { return sl.owner.source == o.source }
	most, own := s.most(in, (*slot).ofClient), s.byClient[o].held()
	switch {
	case most > own+1:
		return s.greediest(in)
	case own == 0:
		return s.oldest(func(sl *slot) bool { return in(sl) && sl.idle(now) })
	}
	return nil // it would only change places
}

func (sl *slot) ofSource() int { return sl.source.n }
func (sl *slot) ofClient() int { return sl.client.n }

// idle reports whether the client has taken no next step, and has had the time.
func (sl *slot) idle(now time.Time) bool {
	return !sl.stepped && now.Sub(sl.since) >= sl.grace
}

// most is the most that one owner among them holds.
func (s *handshakeSlots) most(in func(*slot) bool, held func(*slot) int) (most int) {
	for _, sl := range s.all {
		if in(sl) {
			most = max(most, held(sl))
		}
	}
	return most
}

// greediest is the handshake that the client that holds most among them can best
// do without: the oldest one without a next step, if there is one.
func (s *handshakeSlots) greediest(in func(*slot) bool) *serverHandshake {
	most := s.most(in, (*slot).ofClient)
	theirs := func(sl *slot) bool { return in(sl) && sl.ofClient() == most }
	if h := s.oldest(func(sl *slot) bool { return theirs(sl) && !sl.stepped }); h != nil {
		return h
	}
	return s.oldest(theirs)
}

func (s *handshakeSlots) oldest(in func(*slot) bool) (oldest *serverHandshake) {
	var since time.Time
	for _, sl := range s.all {
		if in(sl) && (oldest == nil || sl.since.Before(since)) {
			oldest, since = sl.h, sl.since
		}
	}
	return oldest
}

// answered notes that h's client is being answered now.
func (s *handshakeSlots) answered(now time.Time, h *serverHandshake) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl := s.used[h]; sl != nil {
		sl.since = now
	}
}

// stepped notes that h's client has shown that it got our answer.
func (s *handshakeSlots) stepped(h *serverHandshake) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl := s.used[h]; sl != nil {
		sl.stepped = true
	}
}

// free gives h's slot back, if it has one. Its work has ended.
func (s *handshakeSlots) free(h *serverHandshake) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(h)
	delete(s.leaving, h)
}

func (s *handshakeSlots) release(h *serverHandshake) {
	sl := s.used[h]
	if sl == nil {
		return
	}
	delete(s.used, h)
	last := len(s.all) - 1
	s.all[sl.at], s.all[last].at = s.all[last], sl.at
	s.all[last] = nil
	s.all = s.all[:last]
	uncount(s.bySource, sl.owner.source)
	uncount(s.byClient, sl.owner)
	if sl.owner.direct {
		s.direct--
	}
}

// len is the number of handshakes in progress, displaced ones that are still at
// work included.
func (s *handshakeSlots) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.used) + len(s.leaving)
}

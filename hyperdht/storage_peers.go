package hyperdht

import (
	"net/netip"
	"time"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/dhtrpc"
)

// storedRelays are the relay addresses of a stored peer, without a pointer.
type storedRelays struct {
	n      uint8
	packed [maxRelays * compact.AddrSize]byte
}

func storeRelays(p packedAddrs) (s storedRelays) {
	p = p.first(maxRelays)
	s.n = uint8(p.len())
	copy(s.packed[:], p)
	return s
}

func (s *storedRelays) addrs() packedAddrs { return s.packed[:compact.AddrSize*int(s.n)] }

// A refreshEntry is what a refresh block renews.
type refreshEntry struct {
	topic  Target
	key    PublicKey
	relays storedRelays
	self   bool // the topic is the hash of the key
}

func (s *storage) findPeer(now time.Time, r *dhtrpc.Request) answer {
	if r.Target == nil {
		return drop(&s.counts.Malformed)
	}
	a := answer{verdict: verdictReply}
	if p, ok := s.routes.record(now, *r.Target); ok {
		a.value = p.append(nil)
	}
	return done(&s.counts.FindPeer, a)
}

func (s *storage) lookup(now time.Time, r *dhtrpc.Request) answer {
	if r.Target == nil {
		return drop(&s.counts.Malformed)
	}
	target := Target(*r.Target)
	s.records = s.records[:0]
	for key, relays := range s.peers.Sample(now, target, lookupReplyPeers, s.rand) {
		s.records = append(s.records, peerRecord{key: key, relays: relays.addrs()})
	}
	if len(s.records) < lookupReplyPeers {
		if p, ok := s.routes.record(now, target); ok {
			s.records = append(s.records, p)
		}
	}
	a := answer{verdict: verdictReply}
	if len(s.records) > 0 {
		bump, _, _ := s.bumps.Get(now, target)
		a.value = lookupReply{s.records, bump}.append(nil)
	}
	return done(&s.counts.Lookup, a)
}

func (s *storage) announce(now time.Time, self *dhtrpc.ID, r *dhtrpc.Request) answer {
	if r.Target == nil || r.Token == nil || r.Value == nil {
		return drop(&s.counts.Malformed)
	}
	m, err := parseAnnouncement(r.Value)
	if err != nil {
		return drop(&s.counts.Malformed)
	}
	if m.peer == nil {
		return s.refresh(now, r, m)
	}
	if m.signature == nil {
		return drop(&s.counts.Malformed)
	}
	target, key := Target(*r.Target), PublicKey(m.peer.key)
	message := m.signable(&nsAnnounce, &target, (*[32]byte)(self), r.Token)
	if !s.verify(now, r.From, &m.peer.key, message[:], m.signature) {
		return answer{}
	}
	e := refreshEntry{topic: target, key: key, relays: storeRelays(m.peer.relays), self: TargetOf(key) == target}
	s.admit(now, e, r.From)
	if !e.self && m.bump > 0 {
		s.bump(now, target, m.bump, r.From)
	}
	if m.refresh != nil {
		s.chain(now, *m.refresh, e, r.From)
	}
	return done(&s.counts.Announce, answer{verdict: verdictBare, stored: true})
}

// refresh renews an announcement whose maker shows the preimage of the block
// that he gave last. docs/spec/hyperdht-records.md §5.
func (s *storage) refresh(now time.Time, r *dhtrpc.Request, m announcement) answer {
	if m.refresh == nil {
		return drop(&s.counts.Malformed)
	}
	block := hash(m.refresh[:])
	e, _, ok := s.refreshes.Get(now, block)
	if !ok {
		return drop(&s.counts.UnknownRefresh)
	}
	s.refreshes.Delete(block)
	s.chain(now, *m.refresh, e, r.From)
	s.admit(now, e, r.From)
	return done(&s.counts.Refresh, answer{verdict: verdictBare, stored: true})
}

// chain remembers what the next refresh block renews.
func (s *storage) chain(now time.Time, block [32]byte, e refreshEntry, from netip.AddrPort) {
	s.refreshes.Put(now, block, e, sourceOf(from))
	s.journal.put(now, kindRefresh, block[:], e.appendFrom(nil, from))
}

// admit stores an announced peer: as a route if it announced its own key, else
// as a member of the topic.
func (s *storage) admit(now time.Time, e refreshEntry, from netip.AddrPort) {
	if e.self {
		s.routes.set(now, e.topic, routeVia(from, e.key, e.relays))
		s.peers.Delete(e.topic, e.key)
		return
	}
	if _, stamp, ok := s.peers.Get(now, e.topic, e.key); ok && now.Sub(stamp) < part(s.limits.PeerAge, youngPart) {
		return
	}
	s.peers.Put(now, e.topic, e.key, e.relays, sourceOf(from))
	s.journal.put(now, kindPeer, append(e.topic[:], e.key[:]...), e.relays.appendFrom(nil, from))
}

// bump remembers the highest bump of a topic. It is a date, by the wall clock.
func (s *storage) bump(now time.Time, topic Target, bump uint64, from netip.AddrPort) {
	held, _, _ := s.bumps.Get(now, topic)
	if bump <= held || bump > uint64(s.wall.Add(maxBumpAhead).UnixMilli()) {
		s.counts.IgnoredBump++
		return
	}
	s.bumps.Put(now, topic, bump, sourceOf(from))
	s.journal.put(now, kindBump, topic[:], appendBump(nil, bump, from))
}

func (s *storage) unannounce(now time.Time, self *dhtrpc.ID, r *dhtrpc.Request) answer {
	if r.Target == nil || r.Token == nil || r.Value == nil {
		return drop(&s.counts.Malformed)
	}
	m, err := parseAnnouncement(r.Value)
	if err != nil || m.peer == nil || m.signature == nil {
		return drop(&s.counts.Malformed)
	}
	target := Target(*r.Target)
	message := m.signable(&nsUnannounce, &target, (*[32]byte)(self), r.Token)
	if !s.verify(now, r.From, &m.peer.key, message[:], m.signature) {
		return answer{}
	}
	s.forget(target, m.peer.key)
	return done(&s.counts.Unannounce, answer{verdict: verdictBare, stored: true})
}

// forget removes an announced peer and its route.
func (s *storage) forget(target Target, key PublicKey) {
	s.peers.Delete(target, key)
	if TargetOf(key) == target {
		s.routes.remove(target)
	}
}

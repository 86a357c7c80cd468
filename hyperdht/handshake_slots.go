package hyperdht

import (
	"net/netip"
	"sync"
	"time"
)

// handshakeSlots bounds the incoming handshakes under way on a node, over all
// its listeners, and those of one source: the host that a message comes from,
// which is a relay unless the client asks us directly. When the slots are taken,
// those of the source that holds most give way, and among them those of the
// client that holds most, the oldest first; but not if that is the newcomer
// himself. So no source can shut out the others, and no client the others that
// come through the same relay. Safe for concurrent use.
type handshakeSlots struct {
	mu             sync.Mutex
	max, perSource int
	used           map[*serverHandshake]slot
	bySource       map[netip.Addr]int
}

type slot struct {
	source, client netip.Addr
	since          time.Time
}

func (s *handshakeSlots) init(max, perSource int) {
	s.max, s.perSource = max, perSource
	s.used = map[*serverHandshake]slot{}
	s.bySource = map[netip.Addr]int{}
}

// take gives h a slot. If another one had to make room it is returned, to be
// aborted.
func (s *handshakeSlots) take(now time.Time, h *serverHandshake, source, client netip.Addr) (displaced *serverHandshake, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sourceFull := !isBogon(source) && s.bySource[source] >= s.perSource
	if sourceFull || len(s.used) >= s.max {
		from := source
		if !sourceFull {
			for a, n := range s.bySource {
				if n > s.bySource[from] {
					from = a
				}
			}
		}
		if displaced = s.victim(from, source, client); displaced == nil {
			return nil, false
		}
		s.release(displaced)
	}
	s.used[h] = slot{source, client, now}
	s.bySource[source]++
	return displaced, true
}

// victim is the handshake that gives way among those that came from a source,
// nil if none has to give way to that newcomer.
func (s *handshakeSlots) victim(from, source, client netip.Addr) (oldest *serverHandshake) {
	byClient := make(map[netip.Addr]int)
	var most netip.Addr
	for _, sl := range s.used {
		if sl.source == from {
			if byClient[sl.client]++; byClient[sl.client] > byClient[most] {
				most = sl.client
			}
		}
	}
	if from == source && byClient[most] <= byClient[client]+1 {
		return nil // it would only change places
	}
	for h, sl := range s.used {
		if sl.source == from && sl.client == most && (oldest == nil || sl.since.Before(s.used[oldest].since)) {
			oldest = h
		}
	}
	return oldest
}

// free gives h's slot back, if it has one.
func (s *handshakeSlots) free(h *serverHandshake) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(h)
}

func (s *handshakeSlots) release(h *serverHandshake) {
	sl, ok := s.used[h]
	if !ok {
		return
	}
	delete(s.used, h)
	if s.bySource[sl.source]--; s.bySource[sl.source] == 0 {
		delete(s.bySource, sl.source)
	}
}

// len is the number of slots taken.
func (s *handshakeSlots) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.used)
}

// A replayFilter remembers first messages that led to a connection, for longer
// than the deduplication does: IK's first message has no freshness, and a copy
// sent later would pass for a new connection (spec §15). The oldest are
// forgotten first. Not safe for concurrent use.
type replayFilter struct {
	at    map[[32]byte]time.Time
	order [][32]byte
}

const (
	maxReplays = 8192
	replayTime = 10 * time.Minute
)

func (f *replayFilter) note(now time.Time, key [32]byte) {
	if f.at == nil {
		f.at = map[[32]byte]time.Time{}
	}
	for len(f.order) > 0 && (len(f.order) >= maxReplays || now.Sub(f.at[f.order[0]]) > replayTime) {
		delete(f.at, f.order[0])
		f.order = f.order[1:]
	}
	if _, known := f.at[key]; !known {
		f.at[key] = now
		f.order = append(f.order, key)
	}
}

func (f *replayFilter) has(now time.Time, key [32]byte) bool {
	at, ok := f.at[key]
	return ok && now.Sub(at) <= replayTime
}

package hyperdht

import (
	"net/netip"
	"sync"
	"time"
)

// handshakeSlots bounds the incoming handshakes under way on a node, over all
// its listeners. When all slots are taken, a newcomer displaces the oldest one
// of the source that holds most, unless the newcomer's own source does: so one
// source cannot shut out the others. Safe for concurrent use.
type handshakeSlots struct {
	mu             sync.Mutex
	max, perSource int
	used           map[*serverHandshake]slot
	bySource       map[netip.Addr]int
}

type slot struct {
	source netip.Addr
	since  time.Time
}

func (s *handshakeSlots) init(max, perSource int) {
	s.max, s.perSource = max, perSource
	s.used = map[*serverHandshake]slot{}
	s.bySource = map[netip.Addr]int{}
}

// take gives h a slot. If another one had to make room it is returned, to be
// aborted.
func (s *handshakeSlots) take(now time.Time, h *serverHandshake, source netip.Addr) (displaced *serverHandshake, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !isBogon(source) && s.bySource[source] >= s.perSource {
		return nil, false
	}
	if len(s.used) >= s.max {
		most := source
		for a, n := range s.bySource {
			if n > s.bySource[most] {
				most = a
			}
		}
		if most == source {
			return nil, false
		}
		for x, sl := range s.used {
			if sl.source == most && (displaced == nil || sl.since.Before(s.used[displaced].since)) {
				displaced = x
			}
		}
		s.release(displaced)
	}
	s.used[h] = slot{source, now}
	s.bySource[source]++
	return displaced, true
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

package hyperdht

import (
	"net/netip"
	"time"
)

// Noise IK's first message has no freshness: a copy passes for a new handshake
// (docs/spec/hyperdht-connect.md §15). A copy never becomes a connection, because
// Accept waits for the peer's proof. But it costs a slot and two key exchanges, asks
// Allow, and may start a punch. So a node remembers the first messages that it
// could open, whatever became of them, longer than the deduplication does, and in
// its store if it has one. An attacker with as many keys as there are entries can
// still push them out.
const (
	maxFirstMessages = 8192
	firstMessageAge  = 24 * time.Hour
)

// replayed reports whether a first message, given by its hash, was seen before.
func (s *storage) replayed(reading time.Time, key [32]byte) bool {
	_, _, ok := s.firstMessages.Get(s.clock.Now(reading), key)
	return ok
}

// noteFirstMessage remembers a first message that came from an address.
func (s *storage) noteFirstMessage(reading time.Time, key [32]byte, from netip.AddrPort) {
	now := s.clock.Now(reading)
	if s.firstMessages.Put(now, key, struct{}{}, sourceOf(from)) && s.journal != nil && !s.journal.Full() {
		s.journal.put(now, kindReplay, key[:], appendSource(nil, from))
	}
}

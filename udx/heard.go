package udx

import (
	"math"
	"time"
)

// SinceReceived returns how long ago the last packet of the peer came, on
// whatever path; the largest duration if none has come yet.
func (s *Stream) SinceReceived() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.timers.heard == 0 {
		return math.MaxInt64
	}
	return s.mux.clock.now().sub(s.core.timers.heard)
}

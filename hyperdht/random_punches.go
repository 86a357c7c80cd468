package hyperdht

import (
	"sync"
	"time"
)

// randomPunches throttles the punches that send thousands of datagrams, over
// both roles of a node (spec §2.4): one at a time, and a pause after each.
type randomPunches struct {
	mu       sync.Mutex
	interval time.Duration
	running  int
	last     time.Time // when the last one ended
}

func (r *randomPunches) allowed(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.free(now)
}

// free is allowed. The lock is held.
func (r *randomPunches) free(now time.Time) bool {
	return r.running == 0 && (r.last.IsZero() || now.Sub(r.last) >= r.interval)
}

func (r *randomPunches) begin(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.free(now) {
		return false
	}
	r.running++
	return true
}

func (r *randomPunches) end(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	r.last = now
}

// rest makes the pause begin now.
func (r *randomPunches) rest(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = now
}

package dhtrpc

const (
	healthTicks = 4 // looked back on
	// healthIdle: with fewer requests ended in a tick it says nothing.
	healthIdle = 4
)

// A health tells from requests that were answered and requests that were not
// whether the network can be reached. docs/spec/dht-rpc.md §9. Owned by the
// core.
//
// The reference gives back a mark of an offline tick that it never took, so
// that its degraded state no longer clears (a defect); here an offline tick
// leaves no mark.
type health struct {
	ring     []snapshot // the last ticks, oldest first
	offline  int        // offline ticks in a row
	down     bool
	degraded bool
}

type snapshot struct {
	responses, timeouts int // counters
	mark                healthMark
}

type healthMark uint8

const (
	unmarked healthMark = iota
	markHealthy
	markDegraded
)

// update takes the counters at the end of a tick and reports whether a state
// changed.
func (h *health) update(responses, timeouts int) (changed bool) {
	was := [2]bool{h.down, h.degraded}
	s := snapshot{responses: responses, timeouts: timeouts}
	r, t := 0, 0
	if n := len(h.ring); n > 0 {
		r, t = responses-h.ring[n-1].responses, timeouts-h.ring[n-1].timeouts
	}
	if len(h.ring) == healthTicks {
		copy(h.ring, h.ring[1:])
		h.ring = h.ring[:healthTicks-1]
	}
	h.ring = append(h.ring, s)
	if len(h.ring) < healthTicks || r+t < healthIdle {
		return false
	}
	last := &h.ring[healthTicks-1]
	switch {
	case r == 0:
		h.offline++
		if h.offline >= 2 {
			h.down = true
		}
	case 2*t > r+t:
		last.mark = markDegraded
		h.offline, h.down = 0, false
	default:
		last.mark = markHealthy
		h.offline, h.down = 0, false
	}
	switch {
	case h.down || h.marks(markHealthy) == healthTicks:
		h.degraded = false
	case h.marks(markDegraded) == healthTicks:
		h.degraded = true
	}
	return was != [2]bool{h.down, h.degraded}
}

func (h *health) marks(m healthMark) (n int) {
	for _, s := range h.ring {
		if s.mark == m {
			n++
		}
	}
	return n
}

// cold reports whether too few ticks were seen to judge.
func (h *health) cold() bool { return len(h.ring) < healthTicks }

// last returns what the newest tick counted.
func (h *health) last() (responses, timeouts int) {
	if n := len(h.ring); n > 1 {
		a, b := h.ring[n-1], h.ring[n-2]
		return a.responses - b.responses, a.timeouts - b.timeouts
	}
	return 0, 0
}

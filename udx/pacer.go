package udx

import "time"

const (
	// pacingQuantum is how much of the rate is released at once: timers are
	// not finer, and trains of packets need segments to be made of.
	pacingQuantum = time.Millisecond
	// minPacingBurst is released however slow the rate is.
	minPacingBurst = 2 * ceilMTU
	// maxPacingDelay is how late a timer may come, on a busy machine, for the
	// time that was lost to be made up for.
	maxPacingDelay = 25 * time.Millisecond
	// minPacingWait is the shortest wait worth a timer.
	minPacingWait = 100 * time.Microsecond
	// noPacingBelow is the round trip under which windows alone are enough
	// (docs/spec/udx.md §8.4): a loopback or a LAN.
	noPacingBelow = time.Millisecond
)

// A pacer spreads transmissions over time: a token bucket of bytes. Unlike the
// reference's it adds up (§3.11), and an idle time buys no more than a burst.
// Sizes are those of IP packets.
// A value owned by a core.
type pacer struct {
	rate   float64 // bytes per second; 0: unlimited
	budget float64 // bytes that may be sent now; may be overdrawn by one packet
	last   instant
	hold   instant // the bucket ran dry: nothing leaves before
}

func (p *pacer) burst() float64 {
	return max(minPacingBurst, p.rate*2*pacingQuantum.Seconds())
}

// setRate changes the rate; what was earned under the old one stays.
func (p *pacer) setRate(now instant, rate float64) {
	p.advance(now)
	p.rate = rate
}

func (p *pacer) advance(now instant) {
	if p.rate > 0 && p.last != 0 {
		limit := p.burst()
		if p.hold != 0 && now > p.hold {
			// The timer came late: the path has been idle meanwhile.
			limit += p.rate * min(now.sub(p.hold), maxPacingDelay).Seconds()
		}
		p.budget = min(p.budget+p.rate*now.sub(p.last).Seconds(), limit)
	} else {
		p.budget = p.burst()
	}
	p.last = now
}

// ready reports whether a packet may leave at the time of the last advance. When
// the bucket has run dry nothing does until a quantum has come in, so that packets
// leave in trains and not one by one as acknowledgements arrive.
func (p *pacer) ready() bool {
	if p.rate == 0 {
		return true
	}
	if p.hold != 0 {
		if p.last < p.hold {
			return false
		}
		p.hold = 0
	}
	if p.budget > 0 {
		return true
	}
	want := min(p.rate*pacingQuantum.Seconds(), p.burst()/2)
	wait := time.Duration((want - p.budget) / p.rate * float64(time.Second))
	p.hold = p.last.add(max(wait, minPacingWait))
	return false
}

// next returns when to try again after ready said no.
func (p *pacer) next() instant { return p.hold }

// sent takes a packet out of the bucket.
func (p *pacer) sent(size int) {
	if p.rate > 0 {
		p.budget -= float64(size)
	}
}

package udx

import "time"

// A controller decides how much may be in flight and how fast it leaves. It
// counts packets; it has neither lock nor clock. BBR is the only one there is;
// the interface is the seam at which the core's tests put a constant window.
type controller interface {
	// onSent is told of a transmission before it counts as in flight.
	onSent(now instant, inflight int, s *rateSampler)
	// onAck is told of every acknowledgement that came while something was in
	// flight.
	onAck(now instant, ev ackEvent)
	// onRecovery is told that recovery begins, before it shrinks the window.
	onRecovery()
	// onTimeout is told of a retransmission timeout.
	onTimeout(inflight int)
	// window is the congestion window in packets, at least 1.
	window() int
	// rate is the pacing rate in bytes of IP packets per second; 0 is no pacing.
	rate() float64
}

// An ackEvent is what an acknowledgement changed.
type ackEvent struct {
	sampler  *rateSampler
	sample   rateSample
	acked    int           // packets newly acknowledged, cumulatively or selectively
	lost     int           // packets newly declared lost
	inflight int           // packets in flight now
	rtt      time.Duration // latest round trip of this acknowledgement; 0: none
	smoothed time.Duration // SRTT
	recovery recoveryState
	size     int // of a full IP packet, in bytes
}

// recoveryState is the state of loss recovery, as TCP names it.
type recoveryState uint8

const (
	stateOpen     recoveryState = iota // no loss
	stateRecovery                      // losses of a flight are being repaired
	stateLoss                          // a retransmission timeout is being repaired
)

package udx

import (
	"time"

	"github.com/warren-dht/warren/internal/seq"
)

// Constants of BBR version 1 (docs/spec/udx.md §3.10).
const (
	bbrInitialWindow  = 10
	bbrMinWindow      = 4
	bbrHighGain       = 2.88539 // 2/ln 2: doubles the rate each round
	bbrDrainGain      = 1 / bbrHighGain
	bbrWindowGain     = 2
	bbrPacingMargin   = 0.99
	bbrFullGrowth     = 1.25
	bbrFullRounds     = 3
	bbrBandwidthRound = 10 // rounds
	bbrMinRTTWindow   = 10 * time.Second
	bbrProbeRTTTime   = 200 * time.Millisecond
	bbrExtraRounds    = 5
	bbrExtraTime      = 100 * time.Millisecond
	bbrFirstPhase     = 4
)

// Departures of ours from version 1; DEVIATIONS.md says why.
const (
	// bbrNearRTT is the round trip below which the peer's socket buffer is the
	// bottleneck, not the path, and the model knows nothing of it. There
	// bbrNearWindow bounds what is in flight, by half as much after each round
	// with losses, and bbrNearFloor is allowed in any case: the bandwidth-delay
	// product of one of many streams is a packet or two, and short trains cost
	// as much as long ones.
	bbrNearRTT    = 2 * time.Millisecond
	bbrNearWindow = 400
	bbrNearFloor  = 32
	// bbrStartupLosses ends STARTUP when so many packets of a round, and more
	// than one in bbrStartupLossRate, are lost while the round trip is longer
	// than the minimum by an eighth: the queue overflows.
	bbrStartupLosses   = 8
	bbrStartupLossRate = 50
)

var bbrPhaseGains = [8]float64{1.25, 0.75, 1, 1, 1, 1, 1, 1}

// bbrState is BBR's mode. The numbers are the reference's.
type bbrState uint8

const (
	bbrStartup bbrState = iota
	bbrDrain
	bbrProbeBW
	bbrProbeRTT
)

func (s bbrState) String() string {
	return [...]string{"STARTUP", "DRAIN", "PROBE_BW", "PROBE_RTT"}[s]
}

// bbr is BBR version 1 as the reference runs it, with time in nanoseconds
// instead of milliseconds. A value owned by a core.
type bbr struct {
	state bbrState

	// The model: how fast the path delivers, and how long it is.
	bandwidth   seq.MaxFilter[float64] // bytes per second, over rounds: for pacing
	packetRate  seq.MaxFilter[float64] // packets per second, over rounds: for windows
	minRTT      time.Duration          // 0: unknown
	minRTTStamp instant

	// Rounds: a round ends when a packet sent after its start is acknowledged.
	rounds     int64
	nextRound  int64 // delivered
	roundStart bool

	// Has STARTUP filled the pipe?
	full          bool
	fullBandwidth float64
	fullCount     int
	roundLost     int   // packets lost in this round
	roundBegan    int64 // delivered when it began

	// PROBE_BW and PROBE_RTT
	phase         int
	phaseStart    instant
	probeRTTDone  instant // 0: not yet down to the minimum
	probeRTTRound bool
	idleRestart   bool

	// Aggregation: how much more comes in one go than the bandwidth explains.
	extra      [2]int
	extraIdx   int
	extraRound int
	epochStart instant
	epochAcked int

	// Recovery
	prevRecovery recoveryState
	conserve     bool
	savedWindow  int

	near       int // on near paths, the largest window
	cwnd       int
	pacing     float64 // bytes per second
	hasRTT     bool    // pacing was set from a round trip
	pacingGain float64
	windowGain float64
	noPacing   bool
}

func newBBR() *bbr {
	b := &bbr{cwnd: bbrInitialWindow, near: bbrNearWindow}
	b.setGains()
	// ≈ 32 kB/ms until there is a round trip.
	b.pacing = bbrInitialWindow * 1000 * 1152 * bbrHighGain * bbrPacingMargin
	return b
}

func (b *bbr) window() int {
	if b.minRTT == 0 || b.minRTT >= bbrNearRTT {
		return b.cwnd
	}
	floor := bbrNearFloor
	if b.state == bbrProbeRTT || b.prevRecovery != stateOpen {
		floor = 0
	}
	return min(max(b.cwnd, floor), b.near)
}

func (b *bbr) rate() float64 {
	if b.noPacing {
		return 0
	}
	return b.pacing
}

// bdp is the bandwidth-delay product times a gain, in packets.
func (b *bbr) bdp(gain float64) int {
	if b.minRTT == 0 {
		return bbrInitialWindow
	}
	return max(1, int(b.packetRate.Value()*b.minRTT.Seconds()*gain))
}

func (b *bbr) setGains() {
	switch b.state {
	case bbrStartup:
		b.pacingGain, b.windowGain = bbrHighGain, bbrHighGain
	case bbrDrain:
		b.pacingGain, b.windowGain = bbrDrainGain, bbrHighGain
	case bbrProbeBW:
		b.pacingGain, b.windowGain = bbrPhaseGains[b.phase], bbrWindowGain
	case bbrProbeRTT:
		b.pacingGain, b.windowGain = 1, 1
	}
}

func (b *bbr) enterProbeBW(now instant) {
	b.state = bbrProbeBW
	b.phase = bbrFirstPhase
	b.phaseStart = now
}

// saveWindow remembers the window before PROBE_RTT or recovery shrinks it.
func (b *bbr) saveWindow() {
	if b.prevRecovery == stateOpen && b.state != bbrProbeRTT {
		b.savedWindow = b.cwnd
	} else {
		b.savedWindow = max(b.savedWindow, b.cwnd)
	}
}

func (b *bbr) onSent(now instant, inflight int, s *rateSampler) {
	if inflight != 0 || s.appLimited == 0 {
		return
	}
	// Restart from idle: send at the estimated rate, not above it.
	b.idleRestart = true
	b.epochStart, b.epochAcked = now, 0
	switch b.state {
	case bbrProbeBW:
		b.pacing = b.pacingFor(1)
	case bbrProbeRTT:
		b.checkProbeRTTDone(now)
	}
}

func (b *bbr) onRecovery() { b.saveWindow() }

func (b *bbr) onTimeout(inflight int) {
	b.saveWindow()
	b.prevRecovery = stateLoss
	b.fullBandwidth = 0
	b.roundStart = true
	b.cwnd = inflight + 1
}

// pacingFor is the rate for a gain.
func (b *bbr) pacingFor(gain float64) float64 {
	return max(1000, b.bandwidth.Value()*gain*bbrPacingMargin)
}

func (b *bbr) onAck(now instant, event ackEvent) {
	ev := &event
	b.updateBandwidth(now, ev)
	b.updatePhase(ev)
	b.updateFull(ev)
	if b.state == bbrStartup && b.full {
		b.state = bbrDrain
	}
	if b.state == bbrDrain && ev.inflight <= b.bdp(1) {
		b.enterProbeBW(ev.sampler.deliveredTime)
	}
	b.updateMinRTT(now, ev)
	b.setGains()
	b.updatePacing(ev)
	b.updateWindow(ev)
}

func (b *bbr) updateBandwidth(now instant, ev *ackEvent) {
	b.roundStart = false
	s := &ev.sample
	if !s.valid() {
		return
	}
	if s.priorDelivered >= b.nextRound {
		b.nextRound = ev.sampler.delivered
		b.rounds++
		b.roundStart = true
		b.conserve = false
		if b.roundLost > 0 {
			b.near = max(min(b.near, b.cwnd)/2, bbrMinWindow)
		} else {
			b.near = min(b.near+1, bbrNearWindow)
		}
		b.roundLost, b.roundBegan = 0, ev.sampler.delivered
	}
	if bw := s.bytesPerSecond(); !s.appLimited || bw >= b.bandwidth.Value() {
		b.bandwidth.Update(bbrBandwidthRound, b.rounds, bw)
	}
	if r := s.packetsPerSecond(); !s.appLimited || r >= b.packetRate.Value() {
		b.packetRate.Update(bbrBandwidthRound, b.rounds, r)
	}
	b.updateExtra(ev)
}

// updateExtra measures the aggregation of acknowledgements.
func (b *bbr) updateExtra(ev *ackEvent) {
	if ev.acked == 0 {
		return
	}
	if b.roundStart {
		if b.extraRound++; b.extraRound >= bbrExtraRounds {
			b.extraRound = 0
			b.extraIdx ^= 1
			b.extra[b.extraIdx] = 0
		}
	}
	at := ev.sampler.deliveredTime
	expected := int(b.packetRate.Value() * at.sub(b.epochStart).Seconds())
	if b.epochAcked <= expected {
		b.epochAcked, b.epochStart, expected = 0, at, 0
	}
	b.epochAcked += ev.acked
	b.extra[b.extraIdx] = max(b.extra[b.extraIdx], min(b.epochAcked-expected, b.cwnd))
}

func (b *bbr) updatePhase(ev *ackEvent) {
	if b.state != bbrProbeBW {
		return
	}
	at := ev.sampler.deliveredTime
	long := at.sub(b.phaseStart) > b.minRTT
	over := long
	switch gain := bbrPhaseGains[b.phase]; {
	case gain > 1:
		over = long && (ev.lost > 0 || ev.inflight > b.bdp(gain))
	case gain < 1:
		over = long || ev.inflight <= b.bdp(1)
	}
	if over {
		b.phase = (b.phase + 1) & 7
		b.phaseStart = at
	}
}

func (b *bbr) updateFull(ev *ackEvent) {
	b.roundLost += ev.lost
	// After a timeout the round trip may be that of an acknowledgement which was
	// lost; before the first one there is nothing to compare with.
	if b.state == bbrStartup && b.roundLost >= bbrStartupLosses && b.minRTT > 0 && ev.recovery != stateLoss &&
		int64(b.roundLost*bbrStartupLossRate) > ev.sampler.delivered-b.roundBegan &&
		ev.rtt > b.minRTT+max(b.minRTT/8, minReorderWindow) {
		b.full = true
	}
	if b.full || !b.roundStart || ev.sample.appLimited {
		return
	}
	if bw := b.bandwidth.Value(); bw >= b.fullBandwidth*bbrFullGrowth {
		b.fullBandwidth, b.fullCount = bw, 0
		return
	}
	b.fullCount++
	b.full = b.fullCount >= bbrFullRounds
}

func (b *bbr) updateMinRTT(now instant, ev *ackEvent) {
	expired := b.minRTTStamp != 0 && now > b.minRTTStamp.add(bbrMinRTTWindow)
	if ev.rtt > 0 && (b.minRTT == 0 || ev.rtt < b.minRTT || expired) {
		b.minRTT = ev.rtt
		b.minRTTStamp = now
	}
	if expired && !b.idleRestart && b.state != bbrProbeRTT {
		b.saveWindow()
		b.state = bbrProbeRTT
		b.probeRTTDone = 0
	}
	if b.state == bbrProbeRTT {
		ev.sampler.limited(ev.inflight)
		if b.probeRTTDone == 0 {
			if ev.inflight <= bbrMinWindow {
				b.probeRTTDone = now.add(bbrProbeRTTTime)
				b.probeRTTRound = false
				b.nextRound = ev.sampler.delivered
			}
		} else {
			if b.roundStart {
				b.probeRTTRound = true
			}
			if b.probeRTTRound {
				b.checkProbeRTTDone(now)
			}
		}
	}
	if ev.sample.delivered > 0 {
		b.idleRestart = false
	}
}

func (b *bbr) checkProbeRTTDone(now instant) {
	if b.probeRTTDone == 0 || now <= b.probeRTTDone {
		return
	}
	b.minRTTStamp = now
	b.cwnd = max(b.cwnd, b.savedWindow)
	if b.full {
		b.enterProbeBW(now)
	} else {
		b.state = bbrStartup
	}
	b.setGains()
}

func (b *bbr) updatePacing(ev *ackEvent) {
	b.noPacing = b.minRTT != 0 && b.minRTT < noPacingBelow
	if !b.hasRTT && ev.smoothed > 0 {
		b.hasRTT = true
		b.pacing = max(1000, float64(b.cwnd)/ev.smoothed.Seconds()*float64(ev.size)*bbrHighGain*bbrPacingMargin)
	}
	if rate := b.pacingFor(b.pacingGain); b.full || rate > b.pacing {
		b.pacing = rate
	}
}

func (b *bbr) updateWindow(ev *ackEvent) {
	if n := ev.acked; n > 0 {
		c := b.cwnd
		if ev.lost > 0 {
			c = max(c-ev.lost, 1)
		}
		if ev.recovery == stateRecovery && b.prevRecovery != stateRecovery {
			b.conserve = true
			b.nextRound = ev.sampler.delivered
			c = ev.inflight + n
		} else if b.prevRecovery != stateOpen && ev.recovery == stateOpen {
			c = max(c, b.savedWindow)
			b.conserve = false
		}
		b.prevRecovery = ev.recovery
		if b.conserve {
			b.cwnd = max(c, ev.inflight+n)
		} else {
			target := b.bdp(b.windowGain)
			if b.full {
				target += min(max(b.extra[0], b.extra[1]), int(b.packetRate.Value()*bbrExtraTime.Seconds()))
				c = min(c+n, target)
			} else if c < target || ev.sampler.delivered < bbrInitialWindow {
				c += n
			}
			b.cwnd = max(c, bbrMinWindow)
		}
	}
	if b.state == bbrProbeRTT {
		b.cwnd = min(b.cwnd, bbrMinWindow)
	}
}

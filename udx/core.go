package udx

import (
	"math"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/internal/seq"
)

// A core is one stream's protocol without lock, clock and socket: packets and
// the time go in, packets and the time of the next deadline come out. Call
//
//	input(now, packet)   for every packet of a batch, then
//	settle(now)          once, to detect losses and update the windows,
//	expire(now)          when deadline() has come,
//	output(now, batch)   after any of these, and after write or finish,
//	                     again while it says that there is more.
//
// When err or done is set the stream is over. Owned by its Stream, under its lock.
type core struct {
	id        uint32
	remoteID  uint32
	remote    netip.AddrPort
	connected bool
	unproven  bool // no packet has come, and none may ever: see ConnectOptions
	limited   bool // what is sent is bounded by credit; see Stream.LimitPath
	credit    int  // bytes that may still be sent

	snd      sendQueue
	peerRwnd int        // what the peer last said it has room for, in bytes
	wl1, wl2 seq.Number // SND.WL1, SND.WL2: seq and ack of the packet that said so
	rttEst   rttEstimator
	minRTT   seq.MinFilter[time.Duration]
	rack     rack
	sampler  rateSampler
	cc       controller
	bbr      bbr
	pace     pacer
	mtu      mtuSearch
	overhead int

	recovery recoveryState
	high     seq.Number // recovery ends when more than this is acknowledged
	lost     int        // packets lost that congestion control has not been told of
	finished bool       // the END is queued

	deferring bool // output holds new data back for a longer train

	rcv   receiver
	doubt doubt

	// A change of the remote address is complete when changeSeq is acknowledged.
	changing  bool
	changeSeq seq.Number
	pathSince instant // what was sent before went by another path

	step   batchStep
	timers timers

	err  error // why the stream is over
	done bool  // it is: both directions have ended, or err is set

	stats Stats
}

// A batchStep is what the packets of one batch did.
type batchStep struct {
	begun     bool
	advanced  bool          // the cumulative acknowledgement did
	inflight  int           // packets, at the beginning
	acked     int           // packets newly acknowledged
	elsewhere int           // those of them that were sent by an earlier path
	rtt       time.Duration // of the newest of them; 0: none
}

// newCore returns a stream's core in its first state (docs/spec/udx.md §2.1). mem
// may be nil.
func newCore(id uint32, start, ack seq.Number, maxWindow int, mem *memory) core {
	c := core{
		id:       id,
		snd:      newSendQueue(start),
		wl1:      ack,
		wl2:      start,
		peerRwnd: DefaultMaxWindow,
		sampler:  newRateSampler(),
		bbr:      *newBBR(),
		mtu:      newMTUSearch(),
		overhead: overhead6,
	}
	c.rcv.next = ack
	c.rcv.max = max(maxWindow, fullPacket)
	c.rcv.limit = min(initialWindow, c.rcv.max)
	c.rcv.advertised = c.rcv.limit
	c.rcv.mem, c.rcv.queue.mem, c.rcv.ooo.mem = mem, mem, mem
	return c
}

// init is the part of construction that needs the core's final address.
func (c *core) init() { c.cc = &c.bbr }

// mss is the largest payload of a new packet.
func (c *core) mss() int { return c.mtu.size - c.overhead }

// connect sets the remote end.
func (c *core) connect(remoteID uint32, remote netip.AddrPort) {
	c.remoteID, c.remote, c.connected = remoteID, remote, true
	c.overhead = overhead(remote.Addr())
	c.snd.recut(c.mss())
}

// changeRemote directs everything that follows, retransmissions as well, to
// another remote end (§2.10). What was learned of the old path, round trip, rate
// and losses, says nothing of the new one and is forgotten (RFC 9000, section
// 9.4), but for a guess of when to send again. The peer gets the usual time to
// answer there.
func (c *core) changeRemote(now instant, remoteID uint32, remote netip.AddrPort) {
	c.mtu = newMTUSearch()
	c.connect(remoteID, remote)
	c.changeSeq = c.snd.nxt
	c.changing = c.changeSeq != c.snd.una

	c.pathSince = now
	known := c.rttEst.smoothed
	if known == 0 {
		known = c.rttEst.guess
	}
	c.rttEst = rttEstimator{guess: known}
	c.minRTT = seq.MinFilter[time.Duration]{}
	c.rack = rack{blind: c.rack.blind, horizon: c.rack.horizon}
	c.sampler = newRateSampler()
	c.bbr, c.pace = *newBBR(), pacer{}
	c.recovery, c.lost = stateOpen, 0
	t := &c.timers
	t.tail, t.reorder, t.pace, t.backoff, t.sampled = 0, 0, 0, 0, false
	if c.outstanding() {
		t.progress, t.rto = now, c.rtoFrom(now)
	}
}

// fail ends the stream with an error.
func (c *core) fail(err error) {
	if !c.done {
		c.err, c.done = err, true
	}
}

// release drops what the core holds, but not what the reader has still to read.
func (c *core) release() {
	c.snd.clear()
	c.rcv.ooo.clear()
	c.rcv.gapAt = 0
	c.timers = timers{}
}

// input takes a packet that came for this stream (§2.4).
func (c *core) input(now instant, p *packet) {
	c.stats.BytesReceived += uint64(headerSize + int(p.offset) + len(p.payload))
	c.stats.PacketsReceived++
	if c.timers.heard = now; c.unproven {
		c.unproven = false
		if c.timers.held { // now it may be worth while
			c.timers.held, c.timers.rto = false, now
		}
	}
	if !c.step.begun {
		c.step.begun, c.step.inflight = true, c.snd.flight.n
	}
	if p.flags&flagHeartbeat != 0 {
		c.rcv.ackNow = true
		c.trust(now)
		return
	}
	if p.flags&flagDestroy != 0 {
		c.destroyed(now, p) // whatever else it says, its sender is gone
		return
	}
	c.trust(now)
	owed := c.rcv.ackState
	if p.flags&(flagData|flagEnd) != 0 {
		c.rcv.receive(now, p)
	}
	if c.snd.nxt.Less(p.ack) {
		c.rcv.ackState = owed // §2.4: acknowledges what was never sent; no answer
		return
	}
	if !p.ack.Less(c.snd.una) && (c.wl1.Less(p.seq) || c.wl1 == p.seq && !p.ack.Less(c.wl2)) {
		c.peerRwnd, c.wl1, c.wl2 = int(min(p.rwnd, math.MaxInt32)), p.seq, p.ack
	}
	if c.snd.una.Less(p.ack) {
		c.acknowledge(now, p.ack)
	}
	if len(p.sacks) > 0 {
		c.acknowledgeBlocks(now, p)
	} else {
		c.rack.blind = false
	}
}

// acknowledge takes a cumulative acknowledgement that is known to be ahead of
// SND.UNA and not ahead of SND.NXT.
func (c *core) acknowledge(now instant, ack seq.Number) {
	rtt, again := c.step.rtt, false
	for n := c.snd.una; n != ack; n++ {
		if p := c.snd.at(n); p.state != packetAcked {
			again = again || p.sends > 1
			c.delivered(now, p)
		}
	}
	if again {
		// Karn's rule for all that it covers: those that were sent once may have
		// come long ago, and their acknowledgement was lost.
		c.step.rtt = rtt
	}
	c.snd.advance(ack)
	c.step.advanced = true
	if c.recovery != stateOpen && c.high.Less(ack) {
		c.recovery = stateOpen
	}
	if c.changing && !ack.Less(c.changeSeq) {
		c.changing = false
	}
}

// sackBudget bounds the work that the blocks of one packet make: steps over what
// is known already. An honest peer's blocks begin where they did before, and take
// a step each.
const sackBudget = 1 << 11

// acknowledgeBlocks takes the packet's SACK blocks. Each is checked alone; a bad
// one is skipped (§3.6).
func (c *core) acknowledgeBlocks(now instant, p *packet) {
	budget := sackBudget
	top := c.snd.una
	for i := range p.sackBlocks() {
		r := p.sackBlock(i)
		if r.Start.Less(c.snd.una) || !r.Start.Less(r.End) || c.snd.nxt.Less(r.End) {
			c.stats.BadBlocks++
			continue
		}
		for n := r.Start; n.Less(r.End); {
			s := c.snd.at(n)
			if s.state == packetAcked {
				if budget--; budget < 0 {
					return
				}
				n = s.next // the end of the run, as far as it was known
				continue
			}
			c.delivered(now, s)
			n++
		}
		first := c.snd.at(r.Start)
		first.next = seq.Max(first.next, r.End)
		top = seq.Max(top, r.End)
	}
	// §10, 9: a packet with all the blocks that there may be says nothing about
	// what lies above them.
	c.rack.blind, c.rack.horizon = p.sackBlocks() >= maxSACKBlocks, top
}

// delivered notes that the peer has packet p.
func (c *core) delivered(now instant, p *sentPacket) {
	if !c.snd.acked(p) {
		return
	}
	p.next = p.seq + 1
	c.step.acked++
	if p.sentAt < c.pathSince {
		c.step.elsewhere++
		return
	}
	if p.probe {
		c.mtu.acked()
	}
	c.mtu.started = true
	if p.sends == 1 {
		// The newest packet's round trip stands for the batch: it is the one
		// without the delay of acknowledgements that were held back.
		if rtt := max(now.sub(p.sentAt), 1); c.step.rtt == 0 || rtt < c.step.rtt {
			c.step.rtt = rtt
		}
	}
	c.sampler.acked(now, p.sentAt, &p.rate, c.overhead+int(p.size))
	c.rack.delivered(now, p, c.minRTT.Value())
}

// minRTTWindow is how long the smallest round trip is believed.
const minRTTWindow = 300 * time.Second

// settle ends a batch of packets: it detects losses, lets congestion control
// see what happened, and sets the timers.
func (c *core) settle(now instant) {
	st := c.step
	c.step = batchStep{}
	if st.rtt > 0 {
		c.rttEst.sample(st.rtt)
		c.minRTT.Update(int64(minRTTWindow), int64(now), st.rtt)
		c.timers.sampled = true
	}
	if st.acked > 0 {
		c.detect(now)
	}
	if st.acked > st.elsewhere {
		c.adapt(now, &st)
	}
	c.timers.afterAck(c, now, st.acked > 0, st.advanced)
}

// detect looks for lost packets.
func (c *core) detect(now instant) {
	before := c.snd.lost.n
	serious := 0
	c.timers.reorder = c.rack.detect(now, &c.snd, c.minRTT.Value(), func(p *sentPacket) {
		if !c.lostProbe(p) && p.sentAt >= c.pathSince {
			serious++
		}
	})
	c.lost += serious
	c.stats.PacketsLost += uint64(c.snd.lost.n - before)
	if serious > 0 && c.recovery == stateOpen {
		c.recovery = stateRecovery
		c.high = c.snd.nxt
		c.cc.onRecovery()
		c.stats.Recoveries++
	}
}

// lostProbe reports whether p, which is lost, was a probe of the path's MTU,
// whose loss says nothing about congestion.
func (c *core) lostProbe(p *sentPacket) bool {
	if !p.probe {
		return false
	}
	p.probe = false
	c.mtu.lost()
	return true
}

// adapt runs congestion control.
func (c *core) adapt(now instant, st *batchStep) {
	if st.inflight == 0 {
		return
	}
	lost := c.lost
	c.lost = 0
	ev := ackEvent{
		sampler:  &c.sampler,
		sample:   c.sampler.finish(now, c.minRTT.Value()),
		acked:    st.acked - st.elsewhere,
		lost:     lost,
		inflight: c.snd.flight.n,
		rtt:      st.rtt,
		smoothed: c.rttEst.smoothed,
		recovery: c.recovery,
		size:     c.mtu.size,
	}
	c.cc.onAck(now, ev)
	c.pace.setRate(now, c.cc.rate())
}

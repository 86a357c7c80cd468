package udx

import "github.com/warren-dht/warren/internal/seq"

// output appends to b what is to be sent now. It reports whether b became full
// before all was said; the caller then writes b and calls again.
func (c *core) output(now instant, b *batch) (more bool) {
	if !c.connected || c.done {
		return false
	}
	c.timers.pace = 0
	c.deferring = c.shouldDefer()
	for {
		if b.full() {
			return true
		}
		p := c.next(now)
		if p == nil || !c.affords(headerSize+int(p.size)) {
			break
		}
		c.transmit(now, p, b)
	}
	c.probeZeroWindow(now)
	if c.timers.zeroDue {
		c.timers.zeroDue = false
		if c.affords(headerSize) {
			c.sendZeroProbe(b)
		}
	}
	if b.full() {
		return true
	}
	if c.timers.heartbeatDue {
		c.timers.heartbeatDue = false
		if c.affords(headerSize) {
			c.sendBare(flagHeartbeat, b)
		}
	}
	if b.full() {
		return true
	}
	if c.doubt.due && c.affords(headerSize) {
		c.sendChallenge(b)
	}
	if b.full() {
		return true
	}
	if c.rcv.owes(now) {
		c.sendAck(b)
	}
	if c.snd.unsent() == 0 && c.snd.lost.n == 0 && c.snd.flight.n < c.cc.window() {
		c.sampler.limited(c.snd.flight.n)
	}
	if c.finished && c.snd.empty() && c.rcv.ended {
		c.done = true
	}
	return false
}

// affords reports whether a packet of that size may be sent on a path that is not
// validated yet.
func (c *core) affords(size int) bool { return !c.limited || size <= c.credit }

// peerWindow is the peer's receive window in packets: bytes are counted as
// packets of our size, and any room at all is room for one (§3.8).
func (c *core) peerWindow() int {
	if c.peerRwnd == 0 {
		return 0
	}
	return max(1, c.peerRwnd/c.mss())
}

// maxSpan bounds how far SND.NXT runs ahead of SND.UNA. An honest peer's window
// does it earlier; one that acknowledges selectively forever, and never SND.UNA,
// must not make the queue grow until it is given up.
const maxSpan = 1 << 15

// deferTrain is how many packets make a train that is worth a system call.
const deferTrain = 16

// shouldDefer reports whether new data waits for more acknowledgements, because
// the window has room for a short train only and nothing else paces it.
func (c *core) shouldDefer() bool {
	q := &c.snd
	if c.pace.rate > 0 || q.flight.n == 0 || q.lost.n > 0 {
		return false
	}
	window := min(c.cc.window(), c.peerWindow())
	room := window - q.flight.n
	return room < min(window/4, deferTrain) && room < q.unsent()
}

// next returns the packet to send, lost ones first, or nil if there is none or
// if windows or pacing forbid it.
func (c *core) next(now instant) *sentPacket {
	q := &c.snd
	if c.timers.tailDue {
		c.timers.tailDue = false
		// A tail loss probe ignores congestion window and pacing: new data if
		// the peer has room, or else the newest packet once more (§3.5).
		if q.unsent() > 0 && q.flight.n < c.peerWindow() && q.nxt.Sub(q.una) < maxSpan {
			return q.at(q.nxt)
		}
		if q.flight.n > 0 {
			c.stats.TailProbes++
			return q.at(q.flight.tail)
		}
	}
	if q.lost.n == 0 && q.unsent() == 0 {
		return nil
	}
	window := c.cc.window()
	if q.lost.n == 0 {
		window = min(window, c.peerWindow())
	}
	if q.flight.n >= window {
		return nil
	}
	if q.lost.n == 0 && (c.deferring || q.nxt.Sub(q.una) >= maxSpan) {
		return nil
	}
	c.pace.advance(now)
	if !c.pace.ready() {
		c.timers.pace = c.pace.next()
		return nil
	}
	if q.lost.n > 0 {
		// The oldest first (RFC 6298, section 5.4): it is what the peer can take
		// even if it has no memory for what follows.
		if p := q.at(q.una); p.state == packetLost {
			return p
		}
		return q.at(q.lost.head)
	}
	return q.at(q.nxt)
}

// transmit sends packet p, for the first time or again.
func (c *core) transmit(now instant, p *sentPacket, b *batch) {
	fresh := p.state == packetUnsent
	size := headerSize + int(p.size)
	pad := 0
	if fresh && !c.changing && !c.limited {
		pad = c.mtu.pad(c.overhead + int(p.size))
	}
	inflight := c.snd.flight.n
	c.cc.onSent(now, inflight, &c.sampler)
	p.rate = c.sampler.sent(now, inflight)
	if p.probe {
		// Sent again without padding: whichever copy arrives, the size is moot.
		c.lostProbe(p)
	}
	c.snd.sent(now, p)

	h := c.header(p.flags)
	h.seq, h.offset = p.seq, uint8(pad)
	if pad > 0 {
		p.probe = true
		c.mtu.sent(c.overhead + int(p.size) + pad)
		d := b.take(size + pad)[:size+pad]
		h.put(d)
		clear(d[headerSize : headerSize+pad])
		copy(d[headerSize+pad:], p.bytes()[headerSize:])
		b.add(d, c.remote)
	} else {
		d := p.bytes()
		h.put(d)
		b.add(d, c.remote)
		b.borrowed = true
	}
	if len(c.rcv.ooo.have) == 0 {
		c.rcv.acked(int(h.rwnd)) // the acknowledgement rides on it
	}
	c.pace.sent(c.overhead + int(p.size) + pad)
	c.timers.afterSend(c, now)
	if !fresh {
		c.stats.Retransmits++
	}
	c.count(size)
}

// header returns a header with the present state; its seq is SND.NXT, as it
// stands in packets that take no number.
func (c *core) header(fl flags) header {
	return header{
		flags:    fl,
		streamID: c.remoteID,
		rwnd:     uint32(c.rcv.window()),
		seq:      c.snd.nxt,
		ack:      c.rcv.next,
	}
}

func (c *core) count(size int) {
	c.credit -= size
	c.stats.PacketsSent++
	c.stats.BytesSent += uint64(size)
}

// sendBare sends a packet of a header alone.
func (c *core) sendBare(fl flags, b *batch) {
	h := c.header(fl)
	b.add(h.Append(b.take(headerSize)), c.remote)
	c.count(headerSize)
}

// sendAck sends an acknowledgement, with blocks if something is missing (§1.5).
func (c *core) sendAck(b *batch) {
	n := min(len(c.rcv.ooo.have), maxSACKBlocks)
	if c.limited && n > 0 && !c.affords(headerSize+n*sackBlockSize) {
		n = 0 // the answer to a packet is no larger than the packet
	}
	h := c.header(0)
	if n > 0 {
		h.flags = flagSACK
	}
	size := headerSize + n*sackBlockSize
	d := h.Append(b.take(size))
	if n > 0 {
		c.rcv.blocks(func(r seq.Range) { d = appendSACKBlock(d, r) })
	}
	b.add(d, c.remote)
	c.rcv.acked(int(h.rwnd))
	c.count(size)
}

// probeZeroWindow keeps the timer of zero window probes (§1.9).
func (c *core) probeZeroWindow(now instant) {
	t := &c.timers
	if c.peerRwnd > 0 || c.snd.unsent() == 0 || c.outstanding() {
		t.zero, t.zeroProbes = 0, 0
		return
	}
	if t.zero == 0 {
		rto := c.rttEst.timeout()
		t.zero = now.add(rto)
		// Ask at once if the window may have opened long ago.
		t.zeroDue = now.sub(t.heard) > rto
	}
}

// sendZeroProbe asks for the peer's window: with a HEARTBEAT, and every other
// time with an empty DATA packet of an old number, which is all that peers
// before 1.20.7 answer.
func (c *core) sendZeroProbe(b *batch) {
	t := &c.timers
	t.zeroProbes++
	c.stats.WindowProbes++
	if t.zeroProbes%2 == 1 {
		c.sendBare(flagHeartbeat, b)
		return
	}
	c.sendOld(b)
}

// sendOld sends an empty DATA packet with an old number, which every version
// answers.
func (c *core) sendOld(b *batch) {
	h := c.header(flagData)
	h.seq = c.snd.una - 1
	b.add(h.Append(b.take(headerSize)), c.remote)
	c.count(headerSize)
}

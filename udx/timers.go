package udx

import "time"

const (
	// giveUpTimeouts is after how many basic timeouts without progress of
	// SND.UNA the peer is gone (§3.7): 13 s for round trips up to a quarter
	// of a second or so.
	giveUpTimeouts = 13
	// giveUpUnit is the least that a timeout counts for this.
	giveUpUnit = time.Second
	// maxBackoff bounds the time between retransmissions for it.
	maxBackoff = 2 * time.Second
	// peerAckDelay is how long the peer may hold an acknowledgement back.
	peerAckDelay = 2 * time.Millisecond
)

// timers are a core's deadlines. An unset one is 0.
type timers struct {
	rto     instant // retransmission timeout
	backoff uint    // how often it struck since the last progress
	tail    instant // tail loss probe
	reorder instant // RACK looks again
	zero    instant // zero window probe
	pace    instant // the pacer lets more go
	keep    instant // keep-alive

	progress  instant // when SND.UNA last advanced, or something got in flight
	heard     instant // when a packet last came
	keepEvery time.Duration

	sampled bool // a round trip was measured since the last tail loss probe
	held    bool // a retransmission was left out, since the peer is not proven

	// What expire asked output for.
	tailDue, heartbeatDue bool
	zeroProbes            int // probes sent in the present closed window
	zeroDue               bool
}

// outstanding reports whether anything waits for an acknowledgement.
func (c *core) outstanding() bool { return c.snd.flight.n+c.snd.lost.n > 0 }

// giveUp is when the peer counts as gone.
func (c *core) giveUp() instant {
	if !c.outstanding() {
		return 0
	}
	return c.timers.progress.add(giveUpTimeouts * max(c.rttEst.timeout(), giveUpUnit))
}

// lastAck reports whether nothing is missing but the acknowledgement of our END,
// after the peer's. A peer without TIME-WAIT (§2.7) that has both is gone, and if
// its last acknowledgement was lost there will be no other: nothing else is.
func (c *core) lastAck() bool {
	q := &c.snd
	return c.rcv.ended && c.finished && q.end.Sub(q.una) == 1 && q.at(q.una).size == 0
}

// rtoFrom is the next retransmission timeout.
func (c *core) rtoFrom(now instant) instant {
	d := c.rttEst.timeout()
	return now.add(max(d, min(d<<min(c.timers.backoff, 10), maxBackoff)))
}

// tailFrom is when to probe for a lost tail (§3.5): 0 if nothing is in flight,
// if RACK will look again anyway, if the last probe taught nothing, or after a
// timeout.
func (c *core) tailFrom(now instant) instant {
	if c.recovery == stateLoss || c.timers.reorder != 0 || c.snd.flight.n == 0 || !c.timers.sampled {
		return 0
	}
	at := now.add(2*c.rttEst.smoothed + peerAckDelay)
	if c.timers.rto != 0 && at >= c.timers.rto {
		return 0
	}
	return at
}

// afterSend sets the deadlines for a packet that was just sent.
func (t *timers) afterSend(c *core, now instant) {
	if t.rto == 0 {
		t.rto = c.rtoFrom(now)
		t.progress = now
	}
	t.tail = c.tailFrom(now)
}

// afterAck sets them after a batch of packets.
func (t *timers) afterAck(c *core, now instant, acked, advanced bool) {
	if advanced {
		t.backoff, t.progress = 0, now
	}
	switch {
	case !c.outstanding():
		t.rto, t.tail, t.reorder = 0, 0, 0
		if t.keepEvery > 0 && acked {
			t.keep = now.add(t.keepEvery)
		}
	case acked:
		t.rto = c.rtoFrom(now)
		t.tail = c.tailFrom(now)
	}
}

// deadline is the earliest time at which expire or output must be called; 0 is
// never.
func (c *core) deadline() instant {
	t := &c.timers
	d := earliest(t.rto, t.tail)
	d = earliest(d, t.reorder)
	d = earliest(d, t.pace)
	d = earliest(d, t.keep)
	d = earliest(d, t.zero)
	d = earliest(d, c.giveUp())
	d = earliest(d, c.doubt.deadline())
	d = earliest(d, c.rcv.gapEnd())
	if c.connected {
		d = earliest(d, c.rcv.ackAt)
	}
	return d
}

// expire does what is due.
func (c *core) expire(now instant) {
	t := &c.timers
	if c.giveUp().reached(now) {
		if c.lastAck() {
			c.done = true
		} else {
			c.fail(errTimedOut)
		}
		return
	}
	if c.rcv.gapEnd().reached(now) {
		c.fail(errGap)
	}
	if c.expireDoubt(now); c.done {
		return
	}
	if t.reorder.reached(now) {
		c.detect(now)
	}
	if t.tail.reached(now) {
		t.tail = 0
		if c.snd.flight.n > 0 {
			t.tailDue, t.sampled = true, false
			t.rto = c.rtoFrom(now)
		}
	}
	switch {
	case !t.rto.reached(now):
	case c.unproven && t.backoff > 0:
		t.held, t.rto = true, c.rtoFrom(now)
	default:
		c.retransmissionTimeout(now)
	}
	if t.zero.reached(now) {
		t.zero = now.add(2 * c.rttEst.timeout())
		t.zeroDue = true
	}
	if t.keep.reached(now) {
		t.keep = 0
		if t.keepEvery > 0 {
			t.keep = now.add(t.keepEvery)
			t.heartbeatDue = !c.outstanding()
		}
	}
}

// retransmissionTimeout gives up what is in flight (§3.7).
func (c *core) retransmissionTimeout(now instant) {
	t := &c.timers
	t.backoff++
	t.tail, t.reorder = 0, 0
	t.rto = c.rtoFrom(now)
	c.stats.Timeouts++
	wait := c.rack.rtt + c.rack.window(c.minRTT.Value())
	for first := true; c.snd.flight.n > 0; first = false {
		p := c.snd.at(c.snd.flight.head)
		if !first && p.sentAt.add(wait) >= now {
			break
		}
		c.snd.lose(p)
		if !c.lostProbe(p) {
			c.lost++
		}
		c.stats.PacketsLost++
	}
	c.recovery = stateLoss
	c.high = c.snd.nxt
	c.cc.onTimeout(c.snd.flight.n)
}

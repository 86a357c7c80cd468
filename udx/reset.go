package udx

import "time"

const (
	// resetProbe is how often the peer is asked whether a DESTROY was its own.
	resetProbe = time.Second
	// resetPatience is how long it may take to answer.
	resetPatience = 5 * time.Second
	// relayPatience is how long a relayed stream stays after a DESTROY has passed
	// and nothing else: three times the keep-alive of a quiet connection.
	relayPatience = 15 * time.Second
)

// A doubt is a DESTROY that may be forged. Nothing repeats a genuine one
// (docs/spec/udx.md §2.8), so it cannot be ignored: the peer is asked, in a way
// that every version answers, and the stream ends if the peer stays silent.
type doubt struct {
	since instant // when the DESTROY came; 0: there is no doubt
	probe instant // when to ask, at the earliest
	asked int     // how often the peer was asked
	due   bool    // output asks
	left  instant // when a DESTROY passed on its way to a relayed stream's target
}

// destroyed takes a DESTROY (RFC 5961, section 3.2): one from the stream's path
// with exactly the next number ends the stream, another one in the window is
// doubted, and all others are dropped. A genuine one is ahead if packets before
// it were lost or overtaken. Its acknowledgement lies between SND.UNA and
// SND.NXT, because the peer sends nothing after it (section 5).
func (c *core) destroyed(now instant, p *packet) {
	ahead := p.seq.Sub(c.rcv.next)
	switch {
	case ahead < 0 || ahead >= maxAhead || p.ack.Less(c.snd.una) || c.snd.nxt.Less(p.ack):
		c.stats.BadResets++
	case ahead == 0 && !p.elsewhere:
		c.fail(errReset)
	default:
		c.stats.BadResets++
		if c.connected && c.doubt.since == 0 {
			// At most one question a second, however many such packets come.
			c.doubt = doubt{since: now, probe: max(now, c.doubt.probe)}
		}
	}
}

// trust ends a doubt when a packet shows that the peer is there. What comes
// within the first second may have been sent before the DESTROY.
func (c *core) trust(now instant) {
	if d := &c.doubt; d.since != 0 && now >= d.since.add(resetProbe) {
		*d = doubt{probe: d.probe}
	}
}

// deadline is when the doubt has to be looked at; 0 is never.
func (d *doubt) deadline() instant {
	if d.since == 0 {
		return 0
	}
	return earliest(d.probe, d.since.add(resetPatience))
}

// expireDoubt does what is due.
func (c *core) expireDoubt(now instant) {
	switch d := &c.doubt; {
	case d.since == 0:
	case d.since.add(resetPatience) <= now:
		c.fail(errReset)
	case d.probe <= now:
		d.due, d.probe = true, now.add(resetProbe)
	}
}

// sendChallenge asks the peer whether it is there: in turns with a HEARTBEAT and
// with an empty DATA packet of an old number, which versions before 1.20.7
// answer as well. Both acknowledge what has come.
func (c *core) sendChallenge(b *batch) {
	c.doubt.due = false
	if c.doubt.asked++; c.doubt.asked%2 == 1 {
		c.sendBare(flagHeartbeat, b)
	} else {
		c.sendOld(b)
	}
}

// passed notes a packet that a relayed stream has forwarded. A relay cannot tell
// whether a DESTROY is genuine, because it does not know the numbers, so it does
// not obey: the peers judge it. It only expects to hear from its sender again.
func (d *doubt) passed(now instant, fl flags) {
	switch {
	case fl&flagDestroy != 0 && fl&flagHeartbeat == 0:
		if d.left == 0 {
			d.left = now
		}
	case d.left != 0 && now >= d.left.add(resetProbe):
		d.left = 0
	}
}

// relayEnd is when a relayed stream ends, if nothing comes until then, and why.
func (c *core) relayEnd() (instant, error) {
	if c.doubt.left != 0 {
		return c.doubt.left.add(relayPatience), errReset
	}
	return c.timers.heard.add(relayIdleTime), errRelayIdle
}

package hyperdht

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/nat"
)

// remoteUnknownPause is how long a client waits for a server that does not know
// its own NAT yet.
const remoteUnknownPause = time.Second

// tryPunch punches to the peer (spec §5.5, steps 5 to 9) and returns when the
// punch is over, one way or the other.
func (d *dial) tryPunch(ctx context.Context, a *dialAnswer) error {
	n := d.node
	x := &dialPunch{dial: d, answer: a, server: a.server}
	// The puncher outlives this function's steps but not the dial.
	p, err := n.newPuncher(ctx, true, a.payload.firewall, x.heard)
	if err != nil {
		return err
	}
	defer p.close()
	x.puncher = p
	d.mu.Lock()
	d.puncher = p
	d.mu.Unlock()
	p.proven = d.link.direct
	p.expect(a.server.Addr())
	info := a.payload.holepunch
	x.relay = info.relays[0]
	for _, r := range info.relays {
		if r.relay == a.relay {
			x.relay = r
			break
		}
	}
	err = x.run(ctx)
	if conn := d.link.candidate().conn; conn != nil {
		d.link.own(conn) // the server may have been first
	}
	report := p.report()
	d.mu.Lock()
	d.report.Punch = &report
	d.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		d.tried(PathPunched, x.server, err)
	}
	return err
}

// A dialPunch is the client's conversation with the server about a punch.
type dialPunch struct {
	*dial
	answer  *dialAnswer
	puncher *puncher
	relay   relayInfo      // the server's relay that we talk through first
	server  netip.AddrPort // the server's puncher socket as a relay sees it
	round   uint64
	delayed bool // the server put us off: it waits for our next round
}

// run is the conversation: a probe round to learn the classes and addresses, a
// punch round to agree on punching, and the punches.
func (x *dialPunch) run(ctx context.Context) error {
	probe, err := x.probe(ctx, !x.cfg.NoFastOpen, true)
	if err != nil {
		return x.abort(ctx, err)
	}
	if x.through() {
		return nil
	}
	if x.relay.relay == x.answer.relay && probe.peer.IsValid() && probe.peer != x.server {
		// The server has taken another socket.
		x.server = probe.peer
		x.puncher.expect(x.server.Addr())
		x.puncher.openTowards(x.server, lowTTL)
	}
	own, addrs := x.puncher.local()
	if !x.node.agrees(x.cfg.Holepunch, own, addrs, x.puncher.view()) {
		return x.abort(ctx, ErrPunchRefused)
	}
	if err := x.punch(ctx, probe.in.token); err != nil {
		return err
	}
	<-x.puncher.ctx.Done()
	if x.through() || ctx.Err() != nil {
		return nil
	}
	return ErrHolepunchAborted
}

// through reports whether the peer has proved itself on a way that is not the
// relay's.
func (x *dialPunch) through() bool { return x.link.direct() }

// heard offers the link a way on which a punch has come. One of the local
// network is better, if there is one. A byte from where nobody expects the peer
// is more likely a stranger's: that way is tried if there is no other.
func (x *dialPunch) heard(s *punchSocket, from netip.AddrPort, expected bool) {
	if expected && x.lanTried == nil {
		x.attach(s.Conn, from, PathPunched)
		return
	}
	x.node.wg.Go(func() {
		wait, tried := min(maxHeadStart, time.Since(x.lanBegun)), x.lanTried
		if !expected {
			wait, tried = reserveTime, nil
		}
		select {
		case <-tried:
		case <-time.After(wait):
		case <-x.puncher.ctx.Done():
		}
		if _, ok := x.link.current(); expected || !ok {
			x.attach(s.Conn, from, PathPunched)
		}
	})
}

// probe is the probe round (spec §5.6).
func (x *dialPunch) probe(ctx context.Context, fast, again bool) (*exchange, error) {
	var opened netip.AddrPort
	if fast {
		opened = x.server
		x.puncher.openTowards(opened, lowTTL)
	}
	own, addrs := x.puncher.local()
	e, err := x.exchange(ctx, x.relay.relay, x.relay.peer, &punchPayload{firewall: own, addresses: addrs, remote: opened})
	if err != nil || x.through() {
		return e, err
	}
	if x.puncher.view().class == nat.Unknown && !x.pause(ctx, remoteUnknownPause) {
		return e, nil
	}
	if err := x.puncher.analyse(); err != nil {
		return nil, err
	}
	own, _ = x.puncher.local()
	remote := x.puncher.view().class
	if again && unstable(own, remote) && x.puncher.reopen() {
		return x.probe(ctx, fast, false)
	}
	if again && (remote == nat.Unknown || e.in.token == nil) {
		return x.probe(ctx, fast, false)
	}
	own, _ = x.puncher.local()
	switch {
	case x.through():
	case own == nat.Unknown || remote == nat.Unknown:
		return nil, ErrHolepunchProbeTimeout
	case own == nat.Random && remote == nat.Random:
		return nil, ErrHolepunchDoubleRandom
	}
	return e, nil
}

// punch is the punch round (spec §5.7). serverToken is what the server wants
// echoed through another relay.
func (x *dialPunch) punch(ctx context.Context, serverToken *[32]byte) error {
	p := x.puncher
	p.freeze()
	told := false
	for {
		if x.through() {
			return nil
		}
		if !p.canStart() {
			if !x.relayInPlay() {
				return x.abort(ctx, ErrPunchThrottled)
			}
			if !told {
				// Let the server know meanwhile who we are.
				if err := x.agree(ctx, serverToken, false); err != nil && !errors.Is(err, errTryLater) {
					return err
				}
				told, x.delayed = true, true
			}
			if !x.pause(ctx, tryLaterPause()) {
				return nil
			}
			continue
		}
		err := x.agree(ctx, serverToken, true)
		switch {
		case x.through() || ctx.Err() != nil:
			return nil
		case errors.Is(err, errTryLater):
			x.delayed = true
			if !x.pause(ctx, tryLaterPause()) {
				return nil
			}
			continue
		case err != nil:
			return x.abort(ctx, err)
		case !p.view().punching:
			return x.abort(ctx, ErrRemoteNotPunching)
		case !p.start():
			return x.abort(ctx, ErrRemoteNotPunchable)
		}
		return nil
	}
}

// agree tells the server that we punch, or are about to. It goes through the
// relay of our handshake to the server's puncher socket, with tokens: two
// relays that vouch for the same host are what a host is verified by. After a
// delay it goes the way of the probe, since the server may have moved.
func (x *dialPunch) agree(ctx context.Context, serverToken *[32]byte, punching bool) error {
	own, addrs := x.puncher.local()
	out := &punchPayload{firewall: own, addresses: addrs, punching: punching, remoteToken: serverToken}
	relay, peer := x.answer.relay, x.server
	if x.delayed {
		relay, peer = x.relay.relay, x.relay.peer
	}
	out.token = x.answer.seal.token(x.server.Addr())
	_, err := x.exchange(ctx, relay, peer, out)
	return err
}

var errTryLater = errors.New("hyperdht: peer asks to punch later")

func tryLaterPause() time.Duration {
	return 10*time.Second + time.Duration(rand.Int64N(int64(10*time.Second)))
}

// relayInPlay reports whether a blind relay may carry the connection meanwhile.
func (x *dialPunch) relayInPlay() bool {
	return !x.dial.relay.key.IsZero() || x.answer.payload.relayThrough != nil
}

// An exchange is a message to the server and its answer.
type exchange struct {
	in       punchPayload
	from, to netip.AddrPort // the relay, and our socket as it sees it
	peer     netip.AddrPort // the server as the relay sees it
}

// exchange sends a message through a relay and, if no answer comes soon, through
// the server's others too. The first answer counts (spec §5.9).
func (x *dialPunch) exchange(ctx context.Context, relay, peer netip.AddrPort, out *punchPayload) (*exchange, error) {
	ways := []relayInfo{{relay, peer}}
	for _, r := range x.answer.payload.holepunch.relays {
		if r.relay != relay && sendable(r.relay) && sendable(r.peer) {
			ways = append(ways, r)
		}
	}
	out.round = min(x.round, maxRound)
	x.round++
	p := x.puncher
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.ctx, func() { cancel(context.Cause(p.ctx)) })()
	type answer struct {
		e   *exchange
		err error
	}
	answers := make(chan answer, len(ways))
	next := time.NewTimer(0)
	defer next.Stop()
	s := p.socket()
	for pending := 0; ; {
		select {
		case <-next.C:
			if len(ways) > 0 {
				w := ways[0]
				ways = ways[1:]
				pending++
				x.node.wg.Go(func() {
					e, err := x.exchangeVia(ctx, s, w, out)
					answers <- answer{e, err}
				})
				next.Reset(exchangeStagger)
			}
		case a := <-answers:
			pending--
			switch {
			case a.err == nil:
				return a.e, x.take(s, a.e, out)
			case x.through() || pending == 0 && len(ways) == 0:
				return nil, a.err
			case pending == 0:
				next.Reset(0)
			}
		}
	}
}

// exchangeVia sends the message through one relay.
func (x *dialPunch) exchangeVia(ctx context.Context, s *punchSocket, via relayInfo, out *punchPayload) (*exchange, error) {
	m := holepunchMessage{mode: fromClient, id: x.answer.payload.holepunch.id, payload: x.answer.seal.seal(out), peer: via.peer}
	r, err := x.node.relayedRequest(ctx, via.relay, dhtrpc.Message{
		Command: cmdPeerHolepunch, Target: (*dhtrpc.ID)(&x.target), Value: m.append(nil),
	}, s.Conn)
	if err != nil {
		return nil, err
	}
	back, err := parseHolepunchMessage(r.Value)
	if err != nil || r.From != via.relay || back.mode != reply {
		return nil, ErrHolepunchInvalid
	}
	e := &exchange{from: r.From, to: r.To, peer: back.peer}
	var ok bool
	if e.in, ok = x.answer.seal.open(back.payload); !ok {
		return nil, ErrHolepunchInvalid
	}
	return e, nil
}

// take learns from an answer.
func (x *dialPunch) take(s *punchSocket, e *exchange, out *punchPayload) error {
	p := x.puncher
	p.observe(s, e.to, e.from)
	var verified netip.Addr
	if out.token != nil && e.in.remoteToken != nil && *e.in.remoteToken == *out.token {
		verified = e.peer.Addr()
	}
	switch {
	case e.in.err == wireTryLater && out.punching && x.relayInPlay():
		// The reference drops what such an answer says, and can then never
		// punch (spec §5.7): the host is verified by it.
		if len(e.in.addresses) > 0 {
			p.update(&e.in, e.peer, verified)
		}
		return errTryLater
	case e.in.err != wireOK:
		return ErrRemoteAborted
	}
	p.update(&e.in, e.peer, verified)
	return nil
}

// pause waits unless the punch gets through or the dial ends first.
func (x *dialPunch) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-x.puncher.ctx.Done():
	}
	return false
}

// provingGrace is how long a way on which the peer seems to be may take to prove
// that, when there is no hope for another one.
const provingGrace = 3 * time.Second

// abort tells the server that we give up, and returns err.
func (x *dialPunch) abort(ctx context.Context, err error) error {
	if x.puncher.hasWon() {
		select {
		case <-ctx.Done():
		case <-time.After(provingGrace):
		}
	}
	if ctx.Err() != nil || x.through() {
		return nil
	}
	n := x.node
	m := holepunchMessage{
		mode: fromClient, id: x.answer.payload.holepunch.id, peer: x.relay.peer,
		payload: x.answer.seal.seal(&punchPayload{err: wireAborted, round: min(x.round, maxRound)}),
	}
	s := x.puncher.socket()
	n.wg.Go(func() {
		ctx, cancel := context.WithTimeout(n.ctx, time.Second)
		defer cancel()
		n.rpc.Request(ctx, x.relay.relay, dhtrpc.Message{
			Command: cmdPeerHolepunch, Target: (*dhtrpc.ID)(&x.target), Value: m.append(nil),
		}, dhtrpc.WithConn(s.Conn), dhtrpc.NoRetry())
	})
	return err
}

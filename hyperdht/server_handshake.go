package hyperdht

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/noise"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
)

// Times of an incoming handshake (spec §2.4).
const (
	handshakeClearWait = 10 * time.Second // an ended one still answers repeated messages
	serverWait         = 10 * time.Second // for a path
	// stepWait is how long the client may take for its next step after we have
	// answered it last: a packet of its stream, or a punch message. Both come a
	// round trip later.
	stepWait  = 3 * time.Second
	stepTick  = 100 * time.Millisecond // between two looks
	allowTime = 10 * time.Second       // for the application's Allow
	// punchPatience is how long the punch of a connection that is behind a relay
	// goes on without a word of the client. One that we put off waits 20 s.
	punchPatience = 30 * time.Second
)

// Sizes of a client's first message: 96 bytes of Noise around the payload.
const (
	minFirstMessage = 96 + 4
	maxFirstMessage = 1100
	maxWaiters      = 16
	maxRecent       = 1024
	maxAskers       = 8 // hosts of a client that our answer went to
)

// A serverHandshake is an incoming connection from its first message to its
// delivery. Deduplicated by the bytes of that message: whichever relays it
// comes through, and however often, it is processed once and answered alike
// (spec §6.1).
//
// Its procedure is run, in a goroutine of its own; messages reach it from the
// RPC node's readers.
type serverHandshake struct {
	l      *Listener
	key    [32]byte // hash of the first message
	id     uint64   // our handle, in punch messages
	ctx    context.Context
	cancel context.CancelCauseFunc
	first  firstMessage

	forget   *time.Timer // runs when it has ended; guarded by l.mu
	opened   bool        // the first message was; run's
	pathOnly bool        // the client wants nothing but a path; run's

	stepped atomic.Bool // the client has shown that it got the answer

	mu       sync.Mutex
	waiters  []waiter // guarded until answered
	answered bool
	answer   []byte       // our message; nil: silence
	via      udp.Conn     // the socket that the answer leaves from; nil: the one asked on
	answerAt time.Time    // when it was last given
	askers   []netip.Addr // the hosts that it went to, if we may believe that

	// Set before the answer is given.
	link       *link
	seal       *punchSeal
	puncher    *puncher    // nil: no punching
	relayToken bool        // a blind relay is in play
	patience   *time.Timer // ends a punch of which the client says nothing more
	highRound  uint64
	seen       punchMemory
	messages   int           // of the client, being answered
	aborted    bool          // the client, or our own Holepunch function, gave up
	punching   chan struct{} // closed when we punch
}

// A firstMessage is what a handshake begins with, and how it came.
type firstMessage struct {
	noise   []byte
	direct  bool           // not through a relay
	client  netip.AddrPort // as the relay, or we, see it
	relay   netip.AddrPort
	vouched bool           // client is whence it came, and not only said to be
	to      netip.AddrPort // our address as the sender of the request sees it
	conn    udp.Conn       // the socket it came in on
}

// A waiter is a request that waits for the handshake's answer.
type waiter struct {
	req    responder
	mode   mode
	client netip.AddrPort // who wants it
	relay  netip.AddrPort // through whom it goes, unless the client asks us directly
	// vouched: the client is where that says, or nobody gets the answer.
	vouched bool
}

// A responder is a request that can be answered: under the node's lock, or
// detached.
type responder interface {
	Reply(value []byte, opts ...dhtrpc.ReplyOption) error
	Relay(to netip.AddrPort, value []byte, opts ...dhtrpc.ReplyOption) error
}

// step notes that the client has shown that it got our answer.
func (h *serverHandshake) step() {
	if !h.stepped.Load() && !h.stepped.Swap(true) {
		h.l.node.slots.stepped(h)
	}
}

// give sets the answer and gives it to all who wait. A nil one is silence.
func (h *serverHandshake) give(answer []byte, via udp.Conn) {
	h.mu.Lock()
	if h.answered {
		h.mu.Unlock()
		return
	}
	h.answered, h.answer, h.via = true, answer, via
	waiters := h.waiters
	h.waiters = nil
	h.mu.Unlock()
	if answer != nil {
		h.l.node.slots.answered(time.Now(), h)
	}
	for _, w := range waiters {
		h.respond(w)
	}
}

// respond answers one request. The answer is set and does not change any more;
// no lock of ours is held, since a detached request takes the RPC node's.
func (h *serverHandshake) respond(w waiter) {
	if h.answer == nil {
		return
	}
	h.mu.Lock()
	h.answerAt = time.Now()
	if host := w.client.Addr(); w.vouched && len(h.askers) < maxAskers && !slices.Contains(h.askers, host) {
		h.askers = append(h.askers, host)
	}
	h.mu.Unlock()
	opts := make([]dhtrpc.ReplyOption, 0, 3)
	if h.via != nil {
		opts = append(opts, dhtrpc.Via(h.via))
	}
	if w.mode == fromClient {
		m := handshakeMessage{mode: reply, noise: h.answer}
		w.req.Reply(m.append(nil), append(opts, dhtrpc.WithoutToken(), dhtrpc.WithoutCloser())...)
		return
	}
	m := handshakeMessage{mode: fromServer, noise: h.answer, peer: w.client}
	w.req.Relay(w.relay, m.append(nil), opts...)
}

// run is the procedure: decrypt, decide, answer, find a path, prove, deliver;
// and for a relayed connection, go on punching.
func (h *serverHandshake) run() {
	l := h.l
	c, err := h.connect()
	h.give(nil, nil) // if nothing was
	l.node.slots.free(h)
	if h.opened && context.Cause(h.ctx) != errDisplaced { // a displaced client repeats it
		l.node.rpc.Do(func() { l.node.records.storage.noteFirstMessage(time.Now(), h.key, h.first.client) })
	}
	if err != nil {
		l.node.cfg.Logger.Debug("hyperdht: incoming connection failed", "from", h.first.client, "err", err)
	} else {
		if h.pathOnly {
			l.escort(c)
		} else {
			l.deliver(c)
		}
		h.finishPunch(c)
	}
	h.cancel(context.Canceled)
	l.retire(h)
}

// finishPunch lets the punch go on while the connection is behind a relay, and
// then gives the stream the socket that it uses and lets go of the others.
func (h *serverHandshake) finishPunch(c *Conn) {
	h.mu.Lock()
	p := h.puncher
	h.mu.Unlock()
	if p == nil {
		return
	}
	h.mu.Lock()
	h.patience = time.AfterFunc(punchPatience, p.close)
	h.mu.Unlock()
	defer h.patience.Stop()
	for path := c.Path(); path.Kind == PathRelayed; {
		var err error
		if path, err = c.NextPath(p.ctx, path); err != nil {
			break
		}
	}
	if conn := h.link.candidate().conn; conn != nil {
		h.link.own(conn)
	}
	p.close()
}

// connect does the work of run (spec §6.3).
func (h *serverHandshake) connect() (*Conn, error) {
	l, n := h.l, h.l.node
	state, err := noise.Initialize(noise.Config{
		Pattern: noise.IK, Prologue: nsPeerHandshake[:], Static: l.keyPair,
	})
	if err != nil {
		return nil, err
	}
	var plain []byte
	err = n.exchanges.run(h.ctx, func() (err error) {
		plain, err = state.ReadMessage(nil, h.first.noise)
		return err
	})
	if h.ctx.Err() != nil {
		return nil, context.Cause(h.ctx)
	}
	if err != nil {
		n.stats.badHandshakes.Add(1)
		return nil, err
	}
	h.opened = true
	remote, err := parseNoisePayload(plain)
	if err != nil {
		n.stats.badHandshakes.Add(1)
		return nil, err
	}
	key, _ := state.RemoteStatic()
	in := h.incoming(key, &remote)
	if err := h.allow(in); err != nil {
		n.stats.refused.Add(1)
		return nil, err
	}
	if !l.reserve(key) {
		n.stats.limited.Add(1)
		out := noisePayload{version: payloadVersion, secretStream: 1, err: wireAborted}
		h.refuse(&state, &out)
		return nil, errTooManyConns
	}
	c, err := h.attempt(&state, in, &remote)
	if err != nil {
		l.unreserve(key)
		return nil, err
	}
	c.link.atEnd(func() { l.unreserve(key) })
	return c, nil
}

// refuse gives an answer that is an error.
func (h *serverHandshake) refuse(state *noise.HandshakeState, out *noisePayload) {
	if msg, err := h.write(state, out); err == nil {
		h.give(msg, nil)
	}
}

// write makes our message.
func (h *serverHandshake) write(state *noise.HandshakeState, out *noisePayload) (msg []byte, err error) {
	err = h.l.node.exchanges.run(h.ctx, func() (err error) {
		msg, err = state.WriteMessage(nil, out.append(nil))
		return err
	})
	return msg, err
}

// attempt answers a client that is allowed in, finds a path and proves it.
func (h *serverHandshake) attempt(state *noise.HandshakeState, in Incoming, remote *noisePayload) (*Conn, error) {
	l, n := h.l, h.l.node
	out, locals := h.describe()
	switch {
	case remote.version != payloadVersion:
		out.err = wireVersionMismatch
	case remote.udx == nil:
		out.err = wireAborted
	}
	if out.err != wireOK {
		h.refuse(state, &out)
		return nil, ErrServerIncompatible
	}

	remote.udx.proves = remote.udx.proves && !l.cfg.plain
	link, err := n.newLink(h.arrived)
	if err != nil {
		return nil, err
	}
	link.maxMessage = cmp.Or(h.l.cfg.MaxMessage, n.cfg.MaxMessage)
	h.pathOnly = remote.udx.pathOnly
	h.mu.Lock()
	h.link = link // nobody can guess the stream's id before, but may try
	h.mu.Unlock()
	out.udx = &udxInfo{id: h.link.raw.ID(), keepsRelay: true, follows: true, proves: !l.cfg.plain, reusable: l.cfg.ReusableSocket}
	relay := pickRelay(l.cfg.RelayThrough)
	left := func() {} // ends the time at a relay of the client's
	if !relay.key.IsZero() {
		out.relayThrough = &relayThroughInfo{publicKey: relay.key, token: relay.token}
	} else if r := remote.relayThrough; r != nil {
		if leave, ok := h.mayJoin(in); ok {
			relay, left = relayChoice{key: r.publicKey, token: r.token}, leave
		}
	}
	fail := func(err error) (*Conn, error) {
		left()
		h.link.raw.Destroy(nil)
		return nil, err
	}

	// The message must be made before the path is chosen: the punch key comes
	// out of the handshake. It is given when the socket it leaves from is known.
	answer, err := h.write(state, &out)
	if err != nil {
		return fail(err)
	}
	res, err := state.Split()
	if err != nil {
		return fail(err)
	}
	h.link.setRemote(remote.udx, &res, 0)
	atOnce := remote.firewall == nat.Open && h.first.vouched || h.first.direct
	h.mu.Lock()
	h.seal = newPunchSeal(&res, remote.udx.proves)
	h.relayToken = !atOnce && !relay.key.IsZero()
	h.mu.Unlock()

	if atOnce {
		h.give(answer, nil)
		left() // there is no need for it
		h.attach()
	} else {
		var via udp.Conn
		if out.firewall != nat.Open && !l.cfg.NoHolepunch {
			via = h.preparePunch(h.sameLAN(locals, remote))
		}
		h.give(answer, via)
		if h.relayToken {
			relay.initiator = out.relayThrough != nil
			l.wg.Go(func() {
				defer left()
				h.pair(relay)
			})
		}
	}
	return h.await(res)
}

// describe is what we say about ourselves, but for the stream and the blind
// relay, and our addresses on the local network if we tell them.
func (h *serverHandshake) describe() (out noisePayload, locals []netip.AddrPort) {
	l, n := h.l, h.l.node
	out = noisePayload{version: payloadVersion, secretStream: 1}
	open, isOpen := n.openAddr()
	if isOpen {
		out.firewall = nat.Open
		out.addresses4 = append(out.addresses4, open)
	} else {
		out.holepunch = &holepunchInfo{id: h.id}
	}
	if !l.cfg.HideLocalAddresses {
		locals = n.localAddrs.tested(h.ctx, n)
		out.addresses4 = append(out.addresses4, locals...)
	}
	if l.announcer != nil {
		out.relayAddresses = l.announcer.Relays()
		if !isOpen {
			out.holepunch.relays = l.announcer.relayInfos()
		}
	}
	return out, locals
}

// attach goes straight to a client that is open to the world or asks directly.
func (h *serverHandshake) attach() {
	n := h.l.node
	n.stats.punchesOpen.Add(1)
	conn := n.rpc.Conn()
	if h.first.direct {
		conn = h.first.conn
	}
	kind := PathDirect
	if n.sockets.find(conn) != nil {
		kind = PathPunched
	}
	h.link.attach(conn, h.first.client, kind)
}

// preparePunch opens a socket to punch from, if there is room for one, and
// returns it if the answer has to leave from it. A client in the same local
// network may not need it.
func (h *serverHandshake) preparePunch(sameLAN bool) udp.Conn {
	p, err := h.l.node.newPuncher(h.ctx, false, nat.Unknown, nil)
	if err != nil {
		return nil
	}
	h.mu.Lock()
	h.puncher = p
	h.mu.Unlock()
	if sameLAN {
		return nil
	}
	return p.socket().Conn
}

// await waits for a path and for the peer's proof on it.
func (h *serverHandshake) await(res noise.Result) (*Conn, error) {
	ctx, cancel := context.WithCancelCause(h.ctx)
	defer cancel(nil)
	h.l.wg.Go(func() { h.watch(ctx, cancel) })
	// Nothing keeps those alive that have not proved themselves: a timer would
	// hold on to what is left of them.
	c, err := h.link.establish(ctx, res, streamOptions{
		insecureDatagrams: h.l.cfg.InsecureDatagrams, needsProof: !h.l.cfg.AcceptUnproven,
	})
	if err == nil {
		c.SetKeepAlive(h.l.cfg.KeepAlive)
	}
	return c, err
}

// watch ends the wait for the peer: when the client takes no next step in time,
// or when the punch is over without a way through. A relay that is being tried
// prolongs it.
func (h *serverHandshake) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	step, grace := stepWait, time.Second // what was sent last may still arrive
	since, end := time.Now(), time.Now().Add(serverWait)
	h.mu.Lock()
	p := h.puncher
	if h.relayToken {
		step, grace, end = relayPairTime, relayPairTime, time.Now().Add(relayPairTime)
	}
	h.mu.Unlock()
	tick := time.NewTicker(stepTick)
	defer tick.Stop()
	punching, attached := h.punching, h.link.attached
	var punched <-chan struct{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-attached: // the link bounds what follows
			attached, punching, punched = nil, nil, nil
			since = time.Now()
		case <-punching: // it bounds itself
			punching, punched = nil, p.ctx.Done()
		case <-punched:
			punched = nil
			end = time.Now().Add(grace)
		case now := <-tick.C:
			if conn, _ := h.link.raw.LastPath(); conn != nil {
				h.step()
			}
			h.mu.Lock()
			if h.answerAt.After(since) {
				since = h.answerAt
			}
			h.mu.Unlock()
			stepped := h.stepped.Load()
			switch {
			case stepped && attached == nil:
				return
			case !stepped && now.Sub(since) >= step,
				punched == nil && now.After(end) && (!stepped || attached != nil):
				cancel(ErrHolepunchAborted)
				return
			}
		}
	}
}

// incoming is what the application is told.
func (h *serverHandshake) incoming(key PublicKey, remote *noisePayload) Incoming {
	in := Incoming{
		RemotePublicKey: key, Addr: h.first.client, Relay: h.first.relay,
		Class: remote.firewall, Addresses: remote.addresses4,
	}
	if r := remote.relayThrough; r != nil {
		in.RelayThrough = r.publicKey
	}
	return in
}

// allow asks the application.
func (h *serverHandshake) allow(in Incoming) error {
	f := h.l.cfg.Allow
	if f == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(h.ctx, allowTime)
	defer cancel()
	err := errPanicked
	h.l.node.guard("Allow", func() { err = f(ctx, in) })
	if err != nil {
		return err
	}
	return context.Cause(ctx)
}

// sameLAN reports whether the client seems to be in our local network: it shows
// the same public host as we do, and an address that matches one of ours.
func (h *serverHandshake) sameLAN(locals []netip.AddrPort, remote *noisePayload) bool {
	if h.l.cfg.HideLocalAddresses || h.first.client.Addr() != h.first.to.Addr() {
		return false
	}
	theirs := slices.DeleteFunc(slices.Clone(remote.addresses4), func(a netip.AddrPort) bool { return !isPrivate(a.Addr()) })
	_, ok := matchLAN(locals, theirs)
	return ok
}

// arrived is the stream's Accept hook: a packet of the client came on a path
// that the stream does not have yet. The client knows the stream's id only from
// our encrypted answer.
func (h *serverHandshake) arrived(_ *udx.Stream, conn udp.Conn, from netip.AddrPort) bool {
	h.mu.Lock()
	link := h.link
	h.mu.Unlock()
	if link == nil || !sendable(from) {
		return false
	}
	how := arrived
	if h.expects(from.Addr()) {
		how = expected
	}
	if !link.offer(candidate{socketPath{conn, from}, h.l.node.kindOf(conn, from)}, how) {
		return false
	}
	h.step()
	return true
}

// expects reports whether the client is known to be at that host: our answer went
// there, or a relay of ours sees its puncher there, or it is in our own network.
func (h *serverHandshake) expects(host netip.Addr) bool {
	if isPrivate(host) {
		return true
	}
	h.mu.Lock()
	p := h.puncher
	asked := slices.Contains(h.askers, host)
	h.mu.Unlock()
	return asked || p != nil && p.knowsHost(host)
}

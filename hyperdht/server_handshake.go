package hyperdht

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/internal/sodium"
	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/noise"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
)

// Times of an incoming handshake (spec §2.4).
const (
	handshakeClearWait = 10 * time.Second // an ended one still answers repeated messages
	serverWait         = 10 * time.Second // for the client's next step
	allowTime          = 10 * time.Second // for the application's Allow
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
	pathOnly bool        // the client wants nothing but a path; run's

	mu       sync.Mutex
	waiters  []waiter // guarded until answered
	answered bool
	answer   []byte   // our message; nil: silence
	via      udp.Conn // the socket that the answer leaves from; nil: the one asked on

	// Set before the answer is given.
	link       *link
	seal       *punchSeal
	puncher    *puncher    // nil: no punching
	relayToken bool        // a blind relay is in play
	patience   *time.Timer // ends a punch of which the client says nothing more
	highRound  uint64
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
}

// A responder is a request that can be answered: under the node's lock, or
// detached.
type responder interface {
	Reply(value []byte, opts ...dhtrpc.ReplyOption) error
	Relay(to netip.AddrPort, value []byte, opts ...dhtrpc.ReplyOption) error
}

// handshake takes a PEER_HANDSHAKE for the listener's key. It runs under the
// RPC node's lock.
func (l *Listener) handshake(req *dhtrpc.Request, m handshakeMessage) {
	switch m.mode {
	case fromClient:
		m.peer = req.From
	case fromRelay, fromSecondRelay:
		// The second of two relays names the first, which may be anybody.
		if !mayReach(req.From, m.peer) || m.mode == fromSecondRelay && !(mayReach(req.From, m.relay) && l.trusts(req.From)) {
			return
		}
	default:
		return
	}
	n := l.node
	if len(m.noise) < minFirstMessage || len(m.noise) > maxFirstMessage {
		n.stats.badHandshakes.Add(1)
		return
	}
	key := hash(m.noise)
	now := time.Now()
	w := waiter{mode: m.mode, client: m.peer, relay: req.From}
	if m.mode == fromSecondRelay {
		w.relay = m.relay
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.suspended {
		return
	}
	if h := l.handshakes[key]; h != nil {
		h.mu.Lock()
		answered := h.answered
		if !answered && len(h.waiters) < maxWaiters {
			w.req = req.Detach()
			h.waiters = append(h.waiters, w)
		}
		h.mu.Unlock()
		if answered {
			w.req = req
			h.respond(w)
		}
		return
	}
	if l.replays.has(now, key) {
		n.stats.replays.Add(1)
		return
	}
	h := &serverHandshake{l: l, key: key, punching: make(chan struct{})}
	displaced, ok := n.slots.take(now, h, req.From.Addr(), m.peer.Addr())
	if displaced != nil {
		displaced.cancel(errDisplaced)
	}
	if !ok {
		n.stats.limited.Add(1)
		return
	}
	pending := req.Detach()
	w.req = pending
	h.waiters = []waiter{w}
	h.ctx, h.cancel = context.WithCancelCause(l.ctx)
	h.first = firstMessage{
		noise: slices.Clone(m.noise), direct: m.mode == fromClient, client: m.peer, relay: req.From,
		to: req.To, conn: req.Conn,
		vouched: m.mode == fromClient || m.mode == fromRelay && l.trusts(req.From),
	}
	if h.first.direct {
		h.first.relay = netip.AddrPort{}
	}
	l.handshakes[key] = h
	h.id = l.takeSlot(h)
	l.wg.Go(h.run)
}

// trusts reports whether what a node says about whence a message came is to be
// believed: those that we have announced to. Whoever else says that he passes
// something on may want us to send to somebody who did not ask.
func (l *Listener) trusts(relay netip.AddrPort) bool {
	return l.announcer != nil && l.announcer.isRelay(relay)
}

// takeSlot gives a handshake the lowest free handle. l.mu is held.
func (l *Listener) takeSlot(h *serverHandshake) uint64 {
	i := slices.Index(l.slots, nil)
	if i < 0 {
		i = len(l.slots)
		l.slots = append(l.slots, nil)
	}
	l.slots[i] = h
	return uint64(i)
}

// clear forgets a handshake that ended a while ago. l.mu is held.
func (l *Listener) clear(h *serverHandshake) {
	if l.handshakes[h.key] == h {
		delete(l.handshakes, h.key)
	}
	if h.id < uint64(len(l.slots)) && l.slots[h.id] == h {
		l.slots[h.id] = nil
		for len(l.slots) > 0 && l.slots[len(l.slots)-1] == nil {
			l.slots = l.slots[:len(l.slots)-1]
		}
	}
}

// retire keeps an ended handshake for a while, so that repeated messages get
// the same answer.
func (l *Listener) retire(h *serverHandshake) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.recent) >= maxRecent {
		l.clearOldest()
	}
	l.recent = append(l.recent, h)
	// The timer of one that is cleared before its time must not hold on to it:
	// in a flood there are many.
	h.forget = time.AfterFunc(handshakeClearWait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for slices.Contains(l.recent, h) {
			l.clearOldest()
		}
	})
}

// clearOldest forgets the handshake that ended first. l.mu is held.
func (l *Listener) clearOldest() {
	h := l.recent[0]
	l.recent[0] = nil
	l.recent = l.recent[1:]
	h.forget.Stop()
	l.clear(h)
}

// dropHandshakes aborts all that are under way.
func (l *Listener) dropHandshakes(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.handshakes {
		h.cancel(why)
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
	if err != nil {
		l.node.cfg.Logger.Debug("hyperdht: incoming connection failed", "from", h.first.client, "err", err)
	} else {
		l.mu.Lock()
		l.replays.note(time.Now(), h.key)
		l.mu.Unlock()
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
	if conn, ok := h.link.currentConn(); ok {
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
	plain, err := state.ReadMessage(nil, h.first.noise)
	if err != nil {
		n.stats.badHandshakes.Add(1)
		return nil, err
	}
	remote, err := parseNoisePayload(plain)
	if err != nil {
		n.stats.badHandshakes.Add(1)
		return nil, err
	}
	key, _ := state.RemoteStatic()
	if err := h.allow(key, &remote); err != nil {
		n.stats.refused.Add(1)
		return nil, err
	}

	out, locals := h.describe()
	switch {
	case remote.version != payloadVersion:
		out.err = wireVersionMismatch
	case remote.udx == nil:
		out.err = wireAborted
	}
	if out.err != wireOK {
		if msg, err := state.WriteMessage(nil, out.append(nil)); err == nil {
			h.give(msg, nil)
		}
		return nil, ErrServerIncompatible
	}

	link, err := n.newLink(h.arrived)
	if err != nil {
		return nil, err
	}
	link.maxMessage = cmp.Or(h.l.cfg.MaxMessage, n.cfg.MaxMessage)
	link.setRemote(remote.udx, 0)
	h.pathOnly = remote.udx.pathOnly
	h.mu.Lock()
	h.link = link // nobody can guess the stream's id before, but may try
	h.mu.Unlock()
	out.udx = &udxInfo{id: h.link.raw.ID(), keepsRelay: true, follows: true, reusable: l.cfg.ReusableSocket}
	relay := pickRelay(l.cfg.RelayThrough)
	if !relay.key.IsZero() {
		out.relayThrough = &relayThroughInfo{publicKey: relay.key, token: relay.token}
	} else if r := remote.relayThrough; r != nil {
		relay = relayChoice{key: r.publicKey, token: r.token}
	}
	fail := func(err error) (*Conn, error) {
		h.link.raw.Destroy(nil)
		return nil, err
	}

	// The message must be made before the path is chosen: the punch key comes
	// out of the handshake. It is given when the socket it leaves from is known.
	answer, err := state.WriteMessage(nil, out.append(nil))
	if err != nil {
		return fail(err)
	}
	res, err := state.Split()
	if err != nil {
		return fail(err)
	}
	h.mu.Lock()
	h.seal = newPunchSeal(sodium.KeyedSum256(res.Hash[:], nsPeerHolepunch[:]))
	h.relayToken = !relay.key.IsZero()
	h.mu.Unlock()

	if remote.firewall == nat.Open && h.first.vouched || h.first.direct {
		h.give(answer, nil)
		h.attach()
	} else {
		var via udp.Conn
		if out.firewall != nat.Open && !l.cfg.NoHolepunch {
			via = h.preparePunch(h.sameLAN(locals, &remote))
		}
		h.give(answer, via)
		if h.relayToken {
			relay.initiator = out.relayThrough != nil
			l.wg.Go(func() { h.pair(relay) })
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
	return h.link.establish(ctx, res, h.l.cfg.KeepAlive)
}

// watch ends the wait for a path: when the client takes no next step in time, or
// when the punch is over without a way through. A relay that is being tried
// prolongs it.
func (h *serverHandshake) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	wait, grace := serverWait, time.Second // what was sent last may still arrive
	h.mu.Lock()
	p := h.puncher
	if h.relayToken {
		wait, grace = relayPairTime, relayPairTime
	}
	h.mu.Unlock()
	t := time.NewTimer(wait)
	defer t.Stop()
	punching := h.punching
	var punched <-chan struct{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.link.attached:
			return
		case <-punching: // it bounds itself
			punching, punched = nil, p.ctx.Done()
			t.Stop()
		case <-punched:
			punched = nil
			t.Reset(grace)
		case <-t.C:
			cancel(ErrHolepunchAborted)
			return
		}
	}
}

// allow asks the application.
func (h *serverHandshake) allow(key PublicKey, remote *noisePayload) error {
	f := h.l.cfg.Allow
	if f == nil {
		return nil
	}
	in := Incoming{
		RemotePublicKey: key, Addr: h.first.client, Relay: h.first.relay,
		Class: remote.firewall, Addresses: remote.addresses4,
	}
	if r := remote.relayThrough; r != nil {
		in.RelayThrough = r.publicKey
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
	if !link.arrived(conn, from, h.l.node.kindOf(conn, from)) {
		return false
	}
	if link.roams() {
		h.l.node.mind()
	}
	return true
}

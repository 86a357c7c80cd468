package hyperdht

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/warren-dht/warren/noise"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
)

// A link is a raw stream and the path that it takes, at either end of a
// connection. Procedures that find a candidate attach it, readers report packets
// from elsewhere; the link's pathCore decides, and the link does what it says.
//
// Safe for concurrent use.
type link struct {
	node *Node
	raw  *udx.Stream

	maxMessage int // of the encrypted stream; 0: the default

	attached chan struct{} // closed when there is a path

	mu       sync.Mutex
	core     pathCore
	seal     *pathSeal // of challenges; nil: not known yet, or the peer cannot
	remoteID uint32
	moved    chan struct{} // closed when the path changes; nil: nobody waits
	rtt      time.Duration // of our handshake; 0: it was the peer's
	begun    time.Time     // when the handshake was done on our side
	sockets  []*punchSocket
	timer    *time.Timer // calls tick; nil: never needed so far
	ended    bool

	relay      *relayLeg     // nil: none
	opening    time.Duration // to wait before the first word
	back       *wayBack      // nil: we cannot dial the peer again
	rejoining  bool
	rejoinedAt time.Time // when that was last over
	onEnd      []func()
}

// newLink makes a link with a new raw stream, whose Accept hook is accept.
func (n *Node) newLink(accept func(*udx.Stream, udp.Conn, netip.AddrPort) bool) (*link, error) {
	l := &link{node: n, attached: make(chan struct{})}
	l.core.nonce = newPathNonce
	raw, err := n.mux.NewStream(udx.StreamConfig{Accept: accept, Probe: l.probed, OnEnd: l.end})
	if err != nil {
		return nil, err
	}
	l.mu.Lock() // probed may have come before
	l.raw = raw
	l.mu.Unlock()
	n.links.add(l)
	return l, nil
}

// end tidies up when the stream is over.
func (l *link) end() {
	l.node.links.remove(l)
	l.mu.Lock()
	l.ended = true
	sockets, relay, hooks := l.sockets, l.relay, l.onEnd
	l.sockets, l.relay, l.onEnd = nil, nil, nil
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	for _, s := range sockets {
		s.drop()
	}
	if relay != nil {
		relay.close()
	}
	for _, f := range hooks {
		f()
	}
}

// atEnd makes f run when the stream is over; at once if it is over already.
func (l *link) atEnd(f func()) {
	l.mu.Lock()
	ended := l.ended
	if !ended {
		l.onEnd = append(l.onEnd, f)
	}
	l.mu.Unlock()
	if ended {
		f()
	}
}

// setRemote tells the link what the peer says about its stream, the outcome of
// the handshake, and how long that took if it was ours. It comes before the
// first attach.
func (l *link) setRemote(u *udxInfo, res *noise.Result, rtt time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remoteID = u.id
	l.core.keepsRelay, l.core.proves = u.keepsRelay, u.proves
	if u.proves {
		l.seal = newPathSeal(res)
	}
	l.rtt, l.begun = rtt, time.Now()
}

// current is the path that the stream takes now; ok is false before the first
// attach.
func (l *link) current() (p Path, ok bool) {
	c := l.candidate()
	if c.conn == nil {
		return p, false
	}
	return c.path(), true
}

// candidate is the path that the stream takes now, with its socket.
func (l *link) candidate() candidate {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.core.current
}

// path is how users see a candidate.
func (c candidate) path() Path { return Path{c.kind, c.conn.LocalAddr(), c.remote} }

// sighting is what the stream knows of the peer's packets.
func (l *link) sighting() (s sighting) {
	s.last.conn, s.last.remote = l.raw.LastPath()
	s.silence = l.raw.SinceReceived()
	return s
}

// attach offers a path to the link and reports whether it is of use. Called from
// procedures and from readers, without locks.
func (l *link) attach(conn udp.Conn, remote netip.AddrPort, kind PathKind) bool {
	return l.offer(candidate{socketPath{conn, remote}, kind}, offered)
}

// offer gives the core a candidate. It reports whether a packet that came from
// there may be processed, or our own candidate is of use.
func (l *link) offer(c candidate, how offer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.raw == nil || l.mayTake(c, how) && c.kind == PathPunched && !l.hold(c.conn) {
		return false
	}
	s := l.core.offer(time.Now(), c, how, l.sighting())
	l.apply(s)
	return s.process || how == offered && len(s.challenges) > 0
}

// mayTake reports whether the core may make c the current path without a
// challenge. The lock is held.
func (l *link) mayTake(c candidate, how offer) bool {
	p := &l.core
	return c.socketPath != p.current.socketPath && (how != arrived || p.proves) && !(p.established && p.proves)
}

// probed is the stream's Probe hook: it takes sealed messages.
func (l *link) probed(_ *udx.Stream, conn udp.Conn, from netip.AddrPort, payload []byte) bool {
	l.mu.Lock()
	taken := l.probe(socketPath{conn, from}, payload)
	l.mu.Unlock()
	if taken && l.roams() {
		l.node.mind()
	}
	return taken
}

// probe takes a message that came on a path, if it is sealed. The lock is held.
func (l *link) probe(from socketPath, payload []byte) bool {
	if l.seal == nil || l.raw == nil || l.ended {
		return false
	}
	kind, nonce, ok := l.seal.open(payload)
	if !ok {
		return false
	}
	switch kind {
	case pathChallenge:
		if !l.core.answers(from) {
			return false // the Accept hook hears of the path
		}
		l.raw.Knock(from.conn, l.idOn(from), from.remote, l.seal.seal(pathAnswer, nonce))
	case pathAnswer:
		if from != l.core.current.socketPath && l.node.sockets.find(from.conn) != nil && !l.hold(from.conn) {
			return true // the socket has just been closed
		}
		l.apply(l.core.answered(time.Now(), from, nonce, l.sighting()))
	}
	return true
}

// tick gives the core the time and what was seen of the peer.
func (l *link) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	seen := l.sighting()
	seen.inFlight = l.raw.Stats().InFlight
	l.apply(l.core.tick(time.Now(), seen))
}

// defaultRTT is the guess of a round trip when nothing is known.
const defaultRTT = 200 * time.Millisecond

// What may be sent to an address that was not shown to be the peer's, beyond
// three times what came from there. To where a client's handshake came from that
// is less than three times the handshake's size. A server has answered our handshake; what
// we send it in the first round trip is a congestion window.
const (
	clientLimit = 300
	serverLimit = 16 << 10
)

// apply does what the core has decided. The lock is held.
func (l *link) apply(s pathStep) {
	c := &l.core
	switch {
	case s.validated:
		l.raw.LimitPath(0)
	case s.take && l.rtt == 0 && s.unasked:
		l.raw.LimitPath(1) // nothing but three times what comes
	case s.take && l.rtt == 0:
		l.raw.LimitPath(clientLimit)
	case s.take:
		l.raw.LimitPath(serverLimit)
	}
	if s.take {
		l.take()
	}
	if s.upgraded {
		l.node.stats.upgrades.Add(1)
	}
	if s.fellBack {
		l.node.stats.fallbacks.Add(1)
	}
	for _, x := range s.challenges {
		l.raw.Knock(x.conn, l.idOn(x.socketPath), x.remote, l.seal.seal(pathChallenge, x.nonce))
	}
	if s.nudge {
		l.raw.SendMessage(nil)
	}
	if s.dropRelay && l.relay != nil {
		l.relay.close() // watchRelay does the rest
	}
	if at := c.deadline(); at.IsZero() || l.ended {
		return
	} else if wait := time.Until(at); l.timer == nil {
		l.timer = time.AfterFunc(wait, l.tick)
	} else {
		l.timer.Reset(wait)
	}
}

// take moves the stream to the core's current path. The lock is held.
func (l *link) take() {
	c := l.core.current
	if l.core.moves == 1 {
		opts := udx.ConnectOptions{RTT: cmp.Or(l.rtt, defaultRTT), Unproven: l.rtt == 0}
		if c.kind == PathRelayed {
			opts = udx.ConnectOptions{}
		}
		l.raw.Connect(c.conn, l.idOn(c.socketPath), c.remote, opts) // fails only when the stream is over
		close(l.attached)
	} else {
		l.raw.ChangeRemote(c.conn, l.idOn(c.socketPath), c.remote)
	}
	if l.moved != nil {
		close(l.moved)
		l.moved = nil
	}
}

// idOn is the stream id to be used on a path: the relay has one of its own. The
// lock is held.
func (l *link) idOn(p socketPath) uint32 {
	if l.relay != nil && p == l.core.relay {
		return l.relay.id
	}
	return l.remoteID
}

// direct reports whether the peer has proved itself and was last heard on the
// path that the stream takes now, which is not the relay's.
func (l *link) direct() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.core.established && l.core.current.kind != PathRelayed && l.sighting().last == l.core.current.socketPath
}

// roams reports whether the peer has been followed to another path.
func (l *link) roams() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.core.established && l.core.moves > 1
}

// hold keeps an extra socket open until the stream is over, whatever becomes of
// its puncher. It reports whether the socket was still open. The lock is held.
func (l *link) hold(conn udp.Conn) bool {
	s := l.node.sockets.find(conn)
	switch {
	case s == nil || l.ended:
		return false
	case !slices.Contains(l.sockets, s):
		if !s.retain() {
			return false
		}
		l.sockets = append(l.sockets, s)
	}
	return true
}

// own is hold for a socket that is no longer anybody else's: it takes no more
// punches. Other sockets than extra ones it leaves alone.
func (l *link) own(conn udp.Conn) {
	s := l.node.sockets.find(conn)
	if s == nil {
		return
	}
	s.mute()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold(conn)
}

// knock lets the peer hear from us on the present path.
func (l *link) knock() {
	l.mu.Lock()
	c, established := l.core.current, l.core.established
	id := l.idOn(c.socketPath)
	l.mu.Unlock()
	if established {
		l.raw.Knock(c.conn, id, c.remote, nil)
	}
}

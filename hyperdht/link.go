package hyperdht

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/warren-dht/warren/noise"
	"github.com/warren-dht/warren/secretstream"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
)

// A link is a raw stream and the path that it takes, at either end of a
// connection. Several ways to the peer are tried at once; each that finds one
// calls attach, and the link decides whether to take it: the first one, and
// later a better one if the peer was not heard yet or is behind a relay.
//
// Safe for concurrent use.
type link struct {
	node *Node
	raw  *udx.Stream

	maxMessage int // of the encrypted stream; 0: the default

	attached chan struct{} // closed when there is a path

	mu          sync.Mutex
	remoteID    uint32
	path        Path
	conn        udp.Conn
	moves       int           // how often the path has changed
	moved       chan struct{} // closed when the path changes; nil: nobody waits
	established bool          // the peer was heard, and proved to hold its key
	rtt         time.Duration // of our handshake; 0: it was the peer's
	begun       time.Time     // when the handshake was done on our side
	sockets     []*punchSocket
	ended       bool

	relay                  *relayLeg     // nil: none
	peerKeepsRelay         bool          // it can fall back to the relay, as we can
	opening                time.Duration // to wait before the first word
	back                   *wayBack      // nil: we cannot dial the peer again
	rejoining              bool
	rejoinedAt             time.Time // when that was last over
	upgradedAt, fellBackAt time.Time
	onEnd                  []func()
}

// newLink makes a link with a new raw stream, whose Accept hook is accept.
func (n *Node) newLink(accept func(*udx.Stream, udp.Conn, netip.AddrPort) bool) (*link, error) {
	l := &link{node: n, attached: make(chan struct{})}
	raw, err := n.mux.NewStream(udx.StreamConfig{Accept: accept, OnEnd: l.end})
	if err != nil {
		return nil, err
	}
	l.raw = raw
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

// setRemote tells the link what the peer says about its stream, and how long the
// handshake took if it was ours. That must be known before the first attach.
func (l *link) setRemote(u *udxInfo, rtt time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remoteID, l.peerKeepsRelay = u.id, u.keepsRelay
	l.rtt, l.begun = rtt, time.Now()
}

// current is the path that the stream takes now; ok is false before the first
// attach.
func (l *link) current() (p Path, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.path, l.conn != nil
}

// reserveTime is how long a path may take to bring a sign of the peer before
// another one that was found meanwhile is tried instead. A peer takes the first
// path on which it hears us and may let go of the others, so trying the next
// one too soon can lose both.
const reserveTime = 400 * time.Millisecond

// attach offers a path to the link and reports whether it is taken. Called from
// procedures and from readers, without locks.
func (l *link) attach(conn udp.Conn, remote netip.AddrPort, kind PathKind) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := Path{Kind: kind, Local: conn.LocalAddr(), Remote: remote}
	switch {
	case kind == PathPunched && !l.hold(conn):
		return false
	case l.conn == nil:
		// A server goes by what a datagram says that anybody may have sent.
		opts := udx.ConnectOptions{RTT: cmp.Or(l.rtt, defaultRTT), Unproven: l.rtt == 0}
		if l.raw.Connect(conn, l.remoteID, remote, opts) != nil {
			return false
		}
		l.take(p, conn)
		close(l.attached)
		return true
	case l.conn == conn && l.path.Remote == remote:
		return true
	case l.path.Kind == PathRelayed && kind != PathRelayed:
		return l.upgrade(p, conn)
	case !l.established && kind != PathRelayed:
		time.AfterFunc(reserveTime, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if !l.established {
				l.change(p, conn)
			}
		})
		return true
	}
	return false
}

// direct reports whether the peer has proved itself and was last heard on the
// path that the stream takes now, which is not the relay's.
func (l *link) direct() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.established || l.path.Kind == PathRelayed {
		return false
	}
	conn, from := l.raw.LastPath()
	return conn == l.conn && from == l.path.Remote
}

// defaultRTT is the guess of a round trip when nothing is known.
const defaultRTT = 200 * time.Millisecond

// change moves the stream to another path. The lock is held.
func (l *link) change(p Path, conn udp.Conn) bool {
	if _, err := l.raw.ChangeRemote(conn, l.remoteID, p.Remote); err != nil {
		return false
	}
	l.take(p, conn)
	return true
}

// currentConn is the socket that the stream uses now.
func (l *link) currentConn() (udp.Conn, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn, l.conn != nil
}

// migrateAfter is how long the stream's path must have been silent before a
// packet from elsewhere moves an established stream there.
const migrateAfter = 500 * time.Millisecond

// arrived takes a packet that came on a path that the stream did not have yet,
// for the stream's Accept hook: whoever sent it knows the stream's id, which
// only the peer was told, under encryption.
func (l *link) arrived(conn udp.Conn, from netip.AddrPort, kind PathKind) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := Path{Kind: kind, Local: conn.LocalAddr(), Remote: from}
	switch {
	case l.relay != nil && l.relay.carries(conn, from):
		return true
	case l.established && l.path.Kind != PathRelayed && l.raw.SinceReceived() < migrateAfter:
		return false
	case kind == PathPunched && !l.hold(conn):
		return false
	case l.conn == nil:
		if l.raw.Connect(conn, l.remoteID, from, udx.ConnectOptions{RTT: cmp.Or(l.rtt, time.Since(l.begun))}) == nil {
			l.take(p, conn)
			close(l.attached)
		}
		return true
	case l.path.Kind == PathRelayed:
		l.upgrade(p, conn)
		return true
	case !l.established:
		l.change(p, conn)
		return true
	}
	// The peer's address has changed.
	p.Kind = l.path.Kind
	return l.change(p, conn)
}

// take notes the path that the stream has now. The lock is held.
func (l *link) take(p Path, conn udp.Conn) {
	l.path, l.conn = p, conn
	l.moves++
	if l.moved != nil {
		close(l.moved)
		l.moved = nil
	}
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

// provingTime is how long a peer may take to be heard on the path that was
// chosen: UDX gives up a stream whose first packet is unacknowledged after 13 s.
// One that acknowledges and says nothing would else keep us waiting for ever.
const provingTime = 13 * time.Second

// establish starts the encrypted stream on the link as soon as there is a path,
// and waits until the peer was heard on it. If it fails the raw stream is
// destroyed.
func (l *link) establish(ctx context.Context, res noise.Result, keepAlive time.Duration) (*Conn, error) {
	select {
	case <-l.attached:
	case <-ctx.Done():
		l.raw.Destroy(nil)
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, provingTime, ErrPathLost)
	defer cancel()
	l.mu.Lock()
	opening := l.opening
	l.mu.Unlock()
	if opening > 0 {
		select {
		case <-time.After(opening):
		case <-ctx.Done():
		}
	}
	sec, err := secretstream.New(l.raw, res, secretstream.Config{KeepAlive: keepAlive, SkipEmpty: true, MaxMessage: l.maxMessage})
	if err != nil {
		l.raw.Destroy(nil)
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { l.raw.Destroy(nil) })
	err = sec.WaitPeer()
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		l.raw.Destroy(nil)
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	l.mu.Lock()
	l.established = true
	conn := l.conn
	l.mu.Unlock()
	l.own(conn)
	return &Conn{Conn: sec, link: l}, nil
}

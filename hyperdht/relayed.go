package hyperdht

import (
	"context"
	mrand "math/rand/v2"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/protomux"
	blind "github.com/warren-dht/warren/relay"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
)

// Times of relayed connections (spec §2.4; the last five are ours).
const (
	relayPairTime  = 15 * time.Second
	relayKeepAlive = 5 * time.Second
	relayWatchTick = 250 * time.Millisecond
	fallbackAfter  = 1500 * time.Millisecond // of silence with data in flight
	upgradePause   = 3 * time.Second         // after a fallback
	maxOpening     = 150 * time.Millisecond  // for the peer's knock at the relay
)

// A relayChoice is the blind relay that both ends of a connection use, and
// their token there.
type relayChoice struct {
	key       PublicKey
	token     blind.Token
	initiator bool // whether we are the pairing's initiator: it is who named the relay
}

// pickRelay picks one of the relays, with a new token; the zero value if there
// is none.
func pickRelay(keys []PublicKey) (c relayChoice) {
	if len(keys) > 0 {
		c.key, c.token = keys[mrand.IntN(len(keys))], blind.NewToken()
	}
	return c
}

// A relayLeg is our half of a relayed path: the connection with the relay, and
// where the relay takes our stream's packets.
type relayLeg struct {
	conn *Conn
	id   uint32 // of the relay's stream for us
	sock udp.Conn
	addr netip.AddrPort
}

func (r *relayLeg) close() { r.conn.Close() }

// carries reports whether a packet that came on conn from that address came
// from the relay.
func (r *relayLeg) carries(conn udp.Conn, from netip.AddrPort) bool {
	return conn == r.sock && from == r.addr
}

func (r *relayLeg) path() Path {
	return Path{Kind: PathRelayed, Local: r.sock.LocalAddr(), Remote: r.addr}
}

// joinRelay connects to a relay and pairs a stream there (spec §9.2).
func (n *Node) joinRelay(ctx context.Context, c relayChoice, stream uint32) (*relayLeg, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, relayPairTime, ErrRelayAborted)
	defer cancel()
	conn, err := n.DialWith(ctx, c.key, DialConfig{KeepAlive: relayKeepAlive, MaxMessage: blind.MaxMessage, noRelay: true})
	if err != nil {
		return nil, err
	}
	mux := protomux.New(conn)
	key := conn.PublicKey()
	client, err := blind.NewClient(mux, key[:])
	if err != nil {
		conn.Close()
		return nil, err
	}
	// Not before the channel is there: the relay opens its own at once, and one
	// that nobody wants is rejected.
	n.wg.Go(func() { mux.Run() }) // ends with the connection
	id, err := client.Pair(ctx, c.initiator, c.token, stream)
	if err != nil {
		conn.Close()
		return nil, err
	}
	sock, _ := conn.link.currentConn()
	return &relayLeg{conn: conn, id: id, sock: sock, addr: conn.Path().Remote}, nil
}

// useRelay offers the link a relayed path and reports whether it may be of use:
// as the way to begin with, or in reserve while another has not proved itself.
func (l *link) useRelay(r *relayLeg) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ended || l.established && !l.peerKeepsRelay:
		return false
	case l.conn == nil:
		if l.raw.Connect(r.sock, r.id, r.addr, udx.ConnectOptions{}) != nil {
			return false
		}
		l.take(r.path(), r.sock)
		// The relay drops what the peer says as long as it does not know our
		// address, and what we say as long as it does not know the peer's.
		l.raw.Knock(r.sock, r.id, r.addr)
		l.opening = min(r.conn.Stats().RTT, maxOpening)
		close(l.attached)
	default:
		// The peer may have begun through the relay, which knows our address
		// only when it has heard us (spec §9.4).
		l.raw.Knock(r.sock, r.id, r.addr)
		l.upgradedAt = time.Now()
	}
	l.relay = r
	l.node.wg.Go(func() { l.watchRelay(r) })
	return true
}

// upgrade moves the stream from the relay to a direct path. The lock is held.
func (l *link) upgrade(p Path, conn udp.Conn) bool {
	if !l.fellBackAt.IsZero() && time.Since(l.fellBackAt) < upgradePause || !l.change(p, conn) {
		return false
	}
	l.upgradedAt = time.Now()
	l.node.stats.upgrades.Add(1)
	return true
}

// watchRelay sees to a stream that has a relayed path beside another one. When
// the stream has moved to a direct path, and the peer was heard there, the relay
// is let go; or it is kept to fall back to, if the peer keeps it too.
func (l *link) watchRelay(r *relayLeg) {
	defer func() {
		l.mu.Lock()
		if l.relay == r {
			l.relay = nil
		}
		l.mu.Unlock()
		r.close()
	}()
	tick := time.NewTicker(relayWatchTick)
	defer tick.Stop()
	told := time.Time{} // the move that the peer was told of
	for {
		select {
		case <-l.raw.Done():
			return
		case <-r.conn.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		path, conn, since := l.path, l.conn, l.upgradedAt
		keep, established := l.peerKeepsRelay, l.established
		l.mu.Unlock()
		if path.Kind == PathRelayed {
			continue
		}
		lastConn, lastAddr := l.raw.LastPath()
		silence := l.raw.SinceReceived()
		heard := lastConn == conn && lastAddr == path.Remote && silence < time.Since(since)
		if told != since {
			// The peer that is heard on the direct path lets go of the relay
			// only when it hears us there, too.
			l.raw.SendMessage(nil)
			if heard {
				told = since
			}
		}
		switch {
		case heard && established && !keep:
			return
		case r.carries(lastConn, lastAddr) && silence < relayWatchTick && time.Since(since) > fallbackAfter,
			silence > fallbackAfter && time.Since(since) > fallbackAfter && l.raw.Stats().InFlight > 0:
			l.fallBack(r)
		}
	}
}

// fallBack moves the stream back to the relay.
func (l *link) fallBack(r *relayLeg) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.raw.ChangeRemote(r.sock, r.id, r.addr); err != nil {
		return
	}
	l.take(r.path(), r.sock)
	l.fellBackAt = time.Now()
	l.node.stats.fallbacks.Add(1)
}

// tryRelay reaches the peer through a blind relay.
func (d *dial) tryRelay(ctx context.Context, c relayChoice) error {
	leg, err := d.node.joinRelay(ctx, c, d.link.raw.ID())
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		d.tried(PathRelayed, netip.AddrPort{}, err)
		return ErrRelayAborted
	}
	if !d.link.useRelay(leg) {
		leg.close()
		return nil
	}
	d.tried(PathRelayed, leg.addr, nil)
	return nil
}

// pair is the server's tryRelay.
func (h *serverHandshake) pair(c relayChoice) {
	n := h.l.node
	n.stats.relayAttempts.Add(1)
	leg, err := n.joinRelay(h.ctx, c, h.link.raw.ID())
	if err != nil {
		n.stats.relayAborts.Add(1)
		return
	}
	n.stats.relaySuccesses.Add(1)
	if !h.link.useRelay(leg) {
		leg.close()
	}
}

package hyperdht

import (
	"context"
	mrand "math/rand/v2"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/protomux"
	blind "github.com/warren-dht/warren/relay"
	"github.com/warren-dht/warren/udp"
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

func (r *relayLeg) socketPath() socketPath { return socketPath{r.sock, r.addr} }

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
	now := conn.link.candidate()
	return &relayLeg{conn: conn, id: id, sock: now.conn, addr: now.remote}, nil
}

// useRelay offers the link a relayed path and reports whether it may be of use:
// as the way to begin with, or in reserve while another has not proved itself.
func (l *link) useRelay(r *relayLeg) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.core.established && !l.core.keepsRelay {
		return false
	}
	l.relay = r
	first := l.core.current.conn == nil
	if first {
		l.opening = min(r.conn.Stats().RTT, maxOpening)
	}
	l.apply(l.core.useRelay(time.Now(), r.socketPath()))
	// The relay drops what the peer says as long as it does not know our address,
	// and what we say as long as it does not know the peer's (spec §9.4).
	l.raw.Knock(r.sock, r.id, r.addr, nil)
	l.node.wg.Go(func() { l.watchRelay(r) })
	return true
}

// watchRelay lets the core see to a relay until the stream or the relay is over.
func (l *link) watchRelay(r *relayLeg) {
	defer func() {
		l.mu.Lock()
		if l.relay == r {
			l.relay, l.core.relay = nil, socketPath{}
		}
		l.mu.Unlock()
		r.close()
	}()
	tick := time.NewTicker(relayWatchTick)
	defer tick.Stop()
	for {
		select {
		case <-l.raw.Done():
			return
		case <-r.conn.Done():
			return
		case <-tick.C:
			l.tick()
		}
	}
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

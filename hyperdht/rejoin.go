package hyperdht

import (
	"context"
	"io"
	"time"

	"github.com/warren-dht/warren/udp"
)

// Times of looking for a peer that was lost.
const (
	lostAfter   = 2500 * time.Millisecond // of silence, although it owes us an answer
	rejoinTick  = 500 * time.Millisecond
	rejoinPause = 3 * time.Second // between two tries; doubles up to rejoinRest
	rejoinRest  = 96 * time.Second
	rejoinCalm  = 5 * time.Minute // without a try: the next one need not wait
	rejoinTime  = 8 * time.Second // for one
	escortTime  = 10 * time.Second
)

// maxRejoins bounds the connections of a node for which it looks for a new path
// at once, maxEscorts the handshakes of a listener that are for nothing else.
const (
	maxRejoins = 16
	maxEscorts = 64
)

// mind looks after the connections that we have dialled, and those whose peers
// have moved, until there are none. When one end's address changes and the other
// is open to the world, a packet suffices for it to follow. If both are behind
// NATs the way has to be punched anew: we dial the peer again, for the sake of
// the path alone, and move the connection there.
func (n *Node) mind() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.minding && !n.closed {
		n.minding = true
		n.wg.Go(n.mindPaths)
	}
}

func (n *Node) mindPaths() {
	tick := time.NewTicker(rejoinTick)
	defer tick.Stop()
	slots := make(chan struct{}, maxRejoins)
	var elsewhere map[*link]Path // where peers were heard last, if not on their streams' paths
	for {
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
		minded, was := n.links.minded(), elsewhere
		elsewhere = make(map[*link]Path)
		for _, l := range minded {
			if p, ok := l.followBack(was[l]); ok {
				elsewhere[l] = p
			}
			if len(slots) < maxRejoins && l.lost() {
				slots <- struct{}{}
				n.wg.Go(func() {
					l.rejoin()
					<-slots
				})
			}
		}
		if len(minded) > 0 {
			continue
		}
		n.mu.Lock()
		over := len(n.links.minded()) == 0 // mind waits for the lock with a new one
		n.minding = !over
		n.mu.Unlock()
		if over {
			return
		}
	}
}

// minded are the links whose peers we can dial again, or have followed.
func (s *links) minded() (out []*link) {
	for _, l := range s.list() {
		l.mu.Lock()
		dialed := l.back != nil && !l.ended
		l.mu.Unlock()
		if dialed || l.roams() {
			out = append(out, l)
		}
	}
	return out
}

// roams reports whether the peer has been followed to another path.
func (l *link) roams() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.established && l.moves > 1
}

// followBack follows a peer that has come back to a path that the stream had
// before: the Accept hook is not asked about those again. It is taken for back
// when the last packet came that way at two looks: was is what the one before
// returned. Where a blind relay has ever been in play that is watchRelay's to
// decide.
func (l *link) followBack(was Path) (elsewhere Path, ok bool) {
	conn, from := l.raw.LastPath()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || !l.established || conn == nil || l.relay != nil || !l.upgradedAt.IsZero() ||
		conn == l.conn && from == l.path.Remote {
		return Path{}, false
	}
	p := Path{Kind: l.path.Kind, Local: conn.LocalAddr(), Remote: from}
	if p != was {
		return p, true
	}
	if l.node.sockets.find(conn) == nil || l.hold(conn) {
		l.change(p, conn)
	}
	return Path{}, false
}

// A wayBack is how to dial the peer of a link again.
type wayBack struct {
	key   PublicKey
	cfg   DialConfig
	pause time.Duration // before the next try
}

// canRejoin says how to find the peer again. cfg is what it was dialled with.
func (l *link) canRejoin(key PublicKey, cfg DialConfig) {
	l.mu.Lock()
	l.back = &wayBack{key: key, cfg: DialConfig{
		KeyPair: cfg.KeyPair, NoLAN: cfg.NoLAN, NoFastOpen: cfg.NoFastOpen, Holepunch: cfg.Holepunch,
		KeepAlive: -1, noRelay: true, pathOnly: true,
	}}
	l.mu.Unlock()
	l.node.mind()
}

// lost reports whether it is time to look for the peer: it does not acknowledge
// what we send, or our network has changed and nothing has come since. A relay
// that can be fallen back to comes first. Unless our network has changed, the
// pauses grow: a peer that is silent again and again costs little.
func (l *link) lost() bool {
	silence := l.raw.SinceReceived()
	if silence < lostAfter {
		return false
	}
	now, changed := time.Now(), l.node.changedAt()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.back == nil || l.relay != nil || l.rejoining {
		return false
	}
	moved := l.rejoinedAt.Before(changed) && now.Add(-silence).Before(changed)
	since := now.Sub(l.rejoinedAt)
	if moved || since > rejoinCalm {
		l.back.pause = 0
	}
	if since < l.back.pause || !moved && l.raw.Stats().InFlight == 0 {
		return false
	}
	l.rejoining = true
	l.back.pause = min(max(2*l.back.pause, rejoinPause), rejoinRest)
	return true
}

// changedAt is when the host's network last changed; zero if it has not.
func (n *Node) changedAt() (t time.Time) {
	if at := n.changed.Load(); at != nil {
		t = *at
	}
	return t
}

// rejoin looks for a path to the peer by another connection with it, and takes
// it.
func (l *link) rejoin() {
	n := l.node
	l.mu.Lock()
	back := *l.back
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.rejoining, l.rejoinedAt = false, time.Now()
		l.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(n.ctx, rejoinTime)
	defer cancel()
	c, err := n.DialWith(ctx, back.key, back.cfg)
	if err != nil {
		return
	}
	defer c.Close()
	conn, _ := c.link.currentConn()
	path := c.Path()
	if !l.moveTo(path, conn) {
		return
	}
	n.stats.rejoins.Add(1)
	// The peer follows when it hears from us there, and may not hear the first
	// packet.
	for range 8 {
		l.knock()
		select {
		case <-time.After(250 * time.Millisecond):
		case <-l.raw.Done():
			return
		}
		if last, from := l.raw.LastPath(); last == conn && from == path.Remote {
			return
		}
	}
}

// moveTo moves the stream to another path, unless the peer was heard meanwhile.
func (l *link) moveTo(p Path, conn udp.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || p.Kind == PathRelayed || l.raw.SinceReceived() < lostAfter || p.Kind == PathPunched && !l.hold(conn) {
		return false
	}
	return l.change(p, conn)
}

// escort serves a connection that a client has made for the sake of its path:
// it is nobody's to accept, and over soon.
func (l *Listener) escort(c *Conn) {
	l.mu.Lock()
	many := l.escorts >= maxEscorts
	if !many {
		l.escorts++
	}
	l.mu.Unlock()
	if many {
		l.node.stats.limited.Add(1)
		c.link.raw.Destroy(nil)
		return
	}
	l.wg.Go(func() {
		defer context.AfterFunc(l.ctx, func() { c.link.raw.Destroy(nil) })()
		c.SetDeadline(time.Now().Add(escortTime))
		io.Copy(io.Discard, c)
		c.Close()
		l.mu.Lock()
		l.escorts--
		l.mu.Unlock()
	})
}

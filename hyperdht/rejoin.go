package hyperdht

import (
	"context"
	"io"
	"time"
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
	for {
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
		minded := n.links.minded()
		for _, l := range minded {
			l.tick()
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
	found := c.link.candidate()
	if found.kind == PathRelayed || l.raw.SinceReceived() < lostAfter || !l.attach(found.conn, found.remote, found.kind) {
		return
	}
	// The core challenges the peer there, which does the same when it hears of
	// it. Until then the path must stay open.
	ctx, cancel = context.WithTimeout(n.ctx, challengeRepeats*challengeRepeat)
	defer cancel()
	for {
		l.mu.Lock()
		now := l.core.current
		if l.moved == nil {
			l.moved = make(chan struct{})
		}
		moved := l.moved
		l.mu.Unlock()
		if now.socketPath == found.socketPath {
			n.stats.rejoins.Add(1)
			// The peer may not have heard our answer yet.
			select {
			case <-time.After(challengeRepeats * challengeRepeat / 2):
			case <-l.raw.Done():
			}
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		case <-l.raw.Done():
			return
		}
	}
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

package hyperdht

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
)

// This is how first messages become handshakes, and how those that have ended
// are remembered and forgotten.

// handshake takes a PEER_HANDSHAKE for the listener's key. It runs under the
// RPC node's lock.
func (l *Listener) handshake(req *dhtrpc.Request, m handshakeMessage) {
	if displaced := l.admit(req, m); displaced != nil {
		displaced.giveWay()
	}
}

// admit is handshake; it returns the handshake that had to make room for this
// one, if any.
func (l *Listener) admit(req *dhtrpc.Request, m handshakeMessage) (displaced *serverHandshake) {
	ours := m.mode != fromClient && l.trusts(req.From)
	switch m.mode {
	case fromClient:
		m.peer = req.From
	case fromRelay, fromSecondRelay:
		// The second of two relays names the first, which may be anybody.
		if !mayReach(req.From, m.peer) || m.mode == fromSecondRelay && !(mayReach(req.From, m.relay) && ours) {
			return nil
		}
	default:
		return nil
	}
	n := l.node
	if len(m.noise) < minFirstMessage || len(m.noise) > maxFirstMessage {
		n.stats.badHandshakes.Add(1)
		return nil
	}
	key := hash(m.noise)
	now := time.Now()
	w := waiter{mode: m.mode, client: m.peer, relay: req.From, vouched: m.mode == fromClient || m.mode == fromRelay && ours}
	if m.mode == fromSecondRelay {
		w.relay = m.relay
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.suspended {
		return nil
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
		return nil
	}
	if n.records.storage.replayed(now, key) {
		n.stats.replays.Add(1)
		return nil
	}
	h := &serverHandshake{l: l, key: key, punching: make(chan struct{})}
	displaced, ok := n.slots.take(now, h, ownerOf(req.From.Addr(), m.peer.Addr(), ours))
	if !ok {
		n.stats.limited.Add(1)
		return nil
	}
	pending := req.Detach()
	w.req = pending
	h.waiters = []waiter{w}
	h.ctx, h.cancel = context.WithCancelCause(l.ctx)
	h.first = firstMessage{
		noise: slices.Clone(m.noise), direct: m.mode == fromClient, client: m.peer, relay: req.From,
		to: req.To, conn: req.Conn, vouched: w.vouched,
	}
	if h.first.direct {
		h.first.relay = netip.AddrPort{}
	}
	l.handshakes[key] = h
	h.id = l.takeSlot(h)
	l.wg.Go(h.run)
	return displaced
}

// giveWay ends a handshake whose slot another one has taken. It is forgotten at
// once: the answer that it has given leads nowhere any more, and a message that
// its client repeats begins a new one.
func (h *serverHandshake) giveWay() {
	h.cancel(errDisplaced)
	h.l.node.stats.limited.Add(1)
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	h.l.clear(h)
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

// retire keeps of an ended handshake its answer for a while, so that repeated
// messages get the same one. What else it held is let go of.
func (l *Listener) retire(h *serverHandshake) {
	h.mu.Lock()
	ended := &serverHandshake{
		l: l, key: h.key, id: h.id, cancel: func(error) {},
		answered: true, answer: h.answer, via: h.via, aborted: true,
	}
	if h.aborted {
		ended.seal = h.seal // its client is told so
	}
	h.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handshakes[h.key] != h {
		return // it had to give way
	}
	for len(l.recent) >= maxRecent {
		l.clearOldest()
	}
	l.handshakes[h.key], l.slots[h.id] = ended, ended
	l.recent = append(l.recent, ended)
	// The timer of one that is cleared before its time must not hold on to it:
	// in a flood there are many.
	ended.forget = time.AfterFunc(handshakeClearWait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for slices.Contains(l.recent, ended) {
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

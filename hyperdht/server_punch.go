package hyperdht

import (
	"net/netip"
	"slices"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/nat"
)

// maxPunchMessages bounds the punch messages of one handshake that are being
// answered at once; answering may have to wait for the analysis of our NAT.
const maxPunchMessages = 8

// holepunch takes a PEER_HOLEPUNCH for the listener's key (spec §6.4). It runs
// under the RPC node's lock.
func (l *Listener) holepunch(req *dhtrpc.Request, m holepunchMessage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.suspended || m.id >= uint64(len(l.slots)) || l.slots[m.id] == nil || !sendable(m.peer) {
		return
	}
	h := l.slots[m.id]
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seal == nil || h.messages >= maxPunchMessages {
		return
	}
	p, ok := h.seal.open(m.payload)
	if !ok {
		return
	}
	note, fresh := h.seen.note([nonceSize]byte(m.payload), m.peer)
	switch {
	case note.from != m.peer:
		l.node.stats.replays.Add(1)
		return
	case !fresh && !note.answered:
		return // the answer is on its way
	}
	h.step()
	h.messages++
	if h.patience != nil {
		h.patience.Reset(punchPatience)
	}
	pending := req.Detach()
	l.wg.Go(func() {
		if answer, via := h.punchMessage(pending, &m, &p, fresh); answer != nil {
			back := holepunchMessage{mode: fromServer, payload: h.seal.seal(answer), peer: m.peer}
			var opts []dhtrpc.ReplyOption
			if via != nil {
				opts = append(opts, dhtrpc.Via(via.Conn))
			}
			pending.Relay(pending.From, back.append(nil), opts...)
		}
		h.mu.Lock()
		note.answered = true
		h.messages--
		h.mu.Unlock()
	})
}

// punchMessage takes one message of the client and returns the answer, nil for
// none, and the socket that it leaves from, nil for the one it came in on.
// Messages may be repeated: such a one is answered again, and has no other
// effect.
//
// Nothing is sent to an address of the client's before something shows that it
// is the client's: a relay of ours sees this message, which only somebody who got
// our answer can have sealed, come from there, and the host is one that the
// answer went to or that has echoed our token.
func (h *serverHandshake) punchMessage(req *dhtrpc.Pending, m *holepunchMessage, in *punchPayload, fresh bool) (*punchPayload, *punchSocket) {
	l, n := h.l, h.l.node
	aborted := &punchPayload{err: wireAborted}
	h.mu.Lock()
	p := h.puncher
	gone := h.aborted
	relayed := h.relayToken
	asker := slices.Contains(h.askers, m.peer.Addr())
	h.mu.Unlock()
	if p == nil || gone {
		return aborted, nil
	}
	if in.err != wireOK {
		h.abort(ErrRemoteAborted)
		return aborted, nil
	}
	ownToken := h.seal.token(m.peer.Addr())
	ourRelay := l.trusts(req.From)
	echoed := ourRelay && in.remoteToken != nil && *in.remoteToken == *ownToken
	p.observe(req.Conn, req.To, req.From)
	h.mu.Lock()
	newest := fresh && in.round >= h.highRound
	h.highRound = min(max(h.highRound, in.round), maxRound)
	h.mu.Unlock()
	if newest {
		var seen netip.AddrPort
		var verified netip.Addr
		if echoed || ourRelay && asker {
			seen = m.peer
		}
		if echoed {
			verified = seen.Addr()
		}
		p.update(in, seen, verified)
	}
	if p.analyse() != nil {
		return nil, nil
	}
	own, _ := p.local()
	if unstable(own, in.firewall) && !in.punching && !p.reopen() {
		own, _ = p.local()
		if unstable(own, in.firewall) {
			h.abort(ErrHolepunchProbeTimeout)
			return aborted, nil
		}
	}
	own, addrs := p.local()
	if newest && ourRelay && (asker || echoed) && (own == nat.Open || own == nat.Consistent) && in.remote.IsValid() && slices.Contains(addrs, in.remote) {
		// Fast open: the client has opened its NAT towards us already.
		p.answerFast(m.peer)
	}
	out := &punchPayload{firewall: own, addresses: addrs, remoteToken: in.token}
	if in.punching {
		view := p.view()
		if !n.agrees(l.cfg.Holepunch, own, addrs, view) {
			h.abort(ErrPunchRefused)
			return aborted, nil
		}
		switch {
		case !p.canStart():
			n.stats.tryLater.Add(1)
			if !relayed {
				h.abort(ErrPunchThrottled)
				return &punchPayload{err: wireTryLater}, p.socket()
			}
			out.err = wireTryLater
		case p.start():
			out.punching = true
			h.mu.Lock()
			closeOnce(h.punching)
			h.mu.Unlock()
		default:
			h.abort(ErrRemoteNotPunchable)
			return aborted, nil
		}
	}
	if own != nat.Unknown {
		p.freeze()
	}
	if ourRelay {
		out.token = ownToken
	}
	h.mu.Lock()
	out.round = h.highRound
	h.mu.Unlock()
	return out, p.socket()
}

// abortGrace is how long a client that has given up punching, or that we do not
// punch to, may take to come another way, such as over the local network.
const abortGrace = time.Second

// abort gives up punching. If no relay is in play and the client has not come
// another way soon, that ends the handshake.
func (h *serverHandshake) abort(err error) {
	h.mu.Lock()
	again := h.aborted
	h.aborted = true
	p := h.puncher
	relayed := h.relayToken
	h.mu.Unlock()
	p.close()
	if again || relayed {
		return
	}
	time.AfterFunc(abortGrace, func() {
		select {
		case <-h.link.attached:
		default:
			h.cancel(err)
		}
	})
}

// agrees asks the application whether to punch; a nil f agrees.
func (n *Node) agrees(f func(PunchAttempt) bool, own nat.Class, addrs []netip.AddrPort, remote remoteView) (ok bool) {
	if f == nil {
		return true
	}
	n.guard("Holepunch", func() { ok = f(attemptOf(own, addrs, remote)) })
	return ok
}

func attemptOf(own nat.Class, addrs []netip.AddrPort, remote remoteView) PunchAttempt {
	a := PunchAttempt{Local: own, Remote: remote.class, LocalAddresses: slices.Clone(addrs)}
	for _, r := range remote.addrs {
		a.RemoteAddresses = append(a.RemoteAddresses, r.addr)
	}
	return a
}

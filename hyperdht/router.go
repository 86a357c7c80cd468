package hyperdht

import (
	"net/netip"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
)

// maxForwardValue bounds the value of a forwarded message. The largest that an
// honest peer sends has some 300 bytes.
const maxForwardValue = 1200

// A router handles PEER_HANDSHAKE and PEER_HOLEPUNCH, which every node passes
// on for others (spec §4). Forwarding keeps no state that an answer depends on:
// the way back is written in the messages. What it does keep is a short memory
// of the requests it passed on, so that it cannot be made to send "answers" to
// somebody who asked nothing.
//
// Guarded by the dhtrpc node's lock, like every handler's state.
type router struct {
	routes *routeTable
	asked  forwards
	budget hostBudget
	stats  RouterStats
}

// RouterStats counts what a node did for others' connections.
type RouterStats struct {
	// Forwarded messages, on their way there and back.
	Handshakes, Holepunches uint64
	// Refused are messages that do not decode, that nobody asked for, or whose
	// destination is not the sender's to choose; Limited came too fast.
	Refused, Limited uint64
}

// listener is this node's own server under a target, nil if there is none.
func (r *router) listener(t Target) *Listener {
	l, _ := r.routes.server(t).(*Listener)
	return l
}

// handshake serves a PEER_HANDSHAKE.
func (r *router) handshake(req *dhtrpc.Request) {
	m, err := parseHandshakeMessage(req.Value)
	if err != nil || req.Target == nil || len(req.Value) > maxForwardValue {
		r.stats.Refused++
		return
	}
	if l := r.listener(*req.Target); l != nil {
		l.handshake(req, m)
		return
	}
	switch m.mode {
	case fromClient:
		to, announced := r.routes.relay(time.Now(), *req.Target)
		if m.relay.IsValid() {
			to, announced = m.relay, false
		} else if !announced {
			req.Reply(nil, dhtrpc.WithoutToken())
			return
		}
		there := handshakeMessage{mode: fromRelay, noise: m.noise, peer: req.From}
		if r.forward(req, to, announced, there.append(nil)) {
			r.stats.Handshakes++
		}
	case fromRelay:
		to, ok := r.routes.relay(time.Now(), *req.Target)
		if !ok || !m.peer.IsValid() {
			r.stats.Refused++
			return
		}
		// The answer does not come back through us: we do not note who asked,
		// which is anybody whom the sender names.
		second := handshakeMessage{mode: fromSecondRelay, noise: m.noise, peer: m.peer, relay: req.From}
		if sendable(to) && req.Relay(to, second.append(nil)) == nil {
			r.stats.Handshakes++
		}
	case fromServer:
		back := handshakeMessage{mode: reply, noise: m.noise, peer: req.From}
		if r.back(req, m.peer, back.append(nil)) {
			r.stats.Handshakes++
		}
	default:
		r.stats.Refused++
	}
}

// holepunch serves a PEER_HOLEPUNCH.
func (r *router) holepunch(req *dhtrpc.Request) {
	m, err := parseHolepunchMessage(req.Value)
	if err != nil || req.Target == nil || len(req.Value) > maxForwardValue {
		r.stats.Refused++
		return
	}
	switch m.mode {
	case fromClient:
		to, announced := r.routes.relay(time.Now(), *req.Target)
		if m.peer.IsValid() {
			to, announced = m.peer, announced && m.peer.Addr() == to.Addr()
		}
		there := holepunchMessage{mode: fromRelay, id: m.id, payload: m.payload, peer: req.From}
		if r.forward(req, to, announced, there.append(nil)) {
			r.stats.Holepunches++
		}
	case fromRelay:
		if l := r.listener(*req.Target); l != nil && m.peer.IsValid() {
			l.holepunch(req, m)
			return
		}
		r.stats.Refused++
	case fromServer:
		back := holepunchMessage{mode: reply, id: m.id, payload: m.payload, peer: req.From}
		if r.back(req, m.peer, back.append(nil)) {
			r.stats.Holepunches++
		}
	default:
		r.stats.Refused++
	}
}

// forward passes a client's request on towards a server: one that announced
// itself here, or else whom the client names.
func (r *router) forward(req *dhtrpc.Request, to netip.AddrPort, announced bool, value []byte) bool {
	if !sendable(to) || !announced && !mayReach(req.From, to) {
		r.stats.Refused++
		return false
	}
	now := time.Now()
	if !announced && !r.budget.take(now, req.From.Addr()) {
		r.stats.Limited++
		return false
	}
	r.asked.note(now, req.TID, req.From)
	return req.Relay(to, value) == nil
}

// back passes an answer on to the client, if the client asked through us.
func (r *router) back(req *dhtrpc.Request, client netip.AddrPort, value []byte) bool {
	if !client.IsValid() || !r.asked.has(time.Now(), req.TID, client) {
		r.stats.Refused++
		return false
	}
	return req.Reply(value, dhtrpc.To(client), dhtrpc.WithoutToken(), dhtrpc.WithoutCloser()) == nil
}

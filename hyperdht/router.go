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
// of who asked and who answered, so that it cannot be made to send anything to
// somebody who has nothing to do with it.
//
// Guarded by the dhtrpc node's lock, like every handler's state.
type router struct {
	routes   *routeTable
	asked    recent[askedKey]
	answered recent[answeredKey]
	budget   hostBudget
	stats    RouterStats
}

// An askedKey is a request that was passed on, an answeredKey a server that has
// answered one: it may do so from another address than it announced.
type (
	askedKey struct {
		tid    uint16
		client endpoint
	}
	answeredKey struct {
		target Target
		server endpoint
	}
)

const (
	askedTime    = 15 * time.Second // requests give up after 6 s; servers may take their time
	answeredTime = 2 * time.Minute  // punching may be put off several times

	maxAsked    = 65536 // a second and more of them at 50,000 a second from as many networks
	maxAnswered = 8192
)

func newRouter(routes *routeTable) *router {
	return &router{
		routes:   routes,
		asked:    newRecent[askedKey](maxAsked, askedTime),
		answered: newRecent[answeredKey](maxAnswered, answeredTime),
	}
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
		to, ok := r.routes.relay(time.Now(), *req.Target)
		if m.relay.IsValid() {
			to, ok = m.relay, r.mayName(req, m.relay)
		} else if !ok {
			req.Reply(nil, dhtrpc.WithoutToken())
			return
		}
		there := handshakeMessage{mode: fromRelay, noise: m.noise, peer: req.From}
		if r.forward(req, to, ok, there.append(nil)) {
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
		// A server punches from other ports than it announces from, and behind
		// some NATs that is another address.
		now := time.Now()
		to, ok := r.routes.relay(now, *req.Target)
		if m.peer.IsValid() {
			ok = ok && m.peer.Addr() == to.Addr() || r.answered.has(now, answeredKey{*req.Target, endpointOf(m.peer)})
			to = m.peer
		}
		there := holepunchMessage{mode: fromRelay, id: m.id, payload: m.payload, peer: req.From}
		if r.forward(req, to, ok, there.append(nil)) {
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

// mayName reports whether a client may choose the next relay: a node that we
// know of, and not too often.
func (r *router) mayName(req *dhtrpc.Request, relay netip.AddrPort) bool {
	if !mayReach(req.From, relay) || !req.Knows(relay) {
		return false
	}
	if !r.budget.take(time.Now(), req.From.Addr(), messagesPerHost) {
		r.stats.Limited++
		return false
	}
	return true
}

// forward passes a client's request on towards a server, if it may.
func (r *router) forward(req *dhtrpc.Request, to netip.AddrPort, may bool, value []byte) bool {
	if !may || !sendable(to) {
		r.stats.Refused++
		return false
	}
	r.asked.note(time.Now(), askedKey{req.TID, endpointOf(req.From)}, req.From.Addr())
	return req.Relay(to, value) == nil
}

// back passes an answer on to the client, if the client asked through us.
func (r *router) back(req *dhtrpc.Request, client netip.AddrPort, value []byte) bool {
	now := time.Now()
	if !client.IsValid() || !r.asked.has(now, askedKey{req.TID, endpointOf(client)}) {
		r.stats.Refused++
		return false
	}
	// An answer's source may be forged. What it takes up counts for the server
	// that has announced itself.
	holder := req.From
	if to, ok := r.routes.relay(now, *req.Target); ok {
		holder = to
	}
	r.answered.note(now, answeredKey{*req.Target, endpointOf(req.From)}, holder.Addr())
	return req.Reply(value, dhtrpc.To(client), dhtrpc.WithoutToken(), dhtrpc.WithoutCloser()) == nil
}

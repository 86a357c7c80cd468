package hyperdht

import (
	"net/netip"
	"time"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/internal/keep"
)

// A routeTable knows the way to peers that announced their own key: for each target
// (the hash of the key) the address that the announcement came from, or the
// server of this very node. FIND_PEER is answered from it, and the two
// forwarded commands, PEER_HANDSHAKE and PEER_HOLEPUNCH, follow it.
// docs/spec/hyperdht-connect.md §4.
//
// A forwarding route lives for the router's age after it was last announced or
// used. A local route lives until it is removed, and nothing that comes from
// the network replaces or deletes it.
//
// Guarded by the dhtrpc node's lock: use it in the handler or in Node.Do.
type routeTable struct {
	age      time.Duration // 0: for ever
	clock    *keep.Clock   // the storage's
	forwards *keep.Map[Target, route, source]
	local    map[Target]localRoute
	journal  *journal
}

// A route is the way to a peer that announced itself.
type route struct {
	relay  [compact.AddrSize]byte // whence the announcement came, and whither to forward
	key    PublicKey
	relays storedRelays
}

func routeVia(relay netip.AddrPort, key PublicKey, relays storedRelays) route {
	return route{[compact.AddrSize]byte(compact.AppendAddr(nil, relay)), key, relays}
}

// addr is whither to forward.
func (w *route) addr() netip.AddrPort {
	r := compact.NewReader(w.relay[:])
	return r.Addr()
}

// A localRoute is a server of this node.
type localRoute struct {
	record  peerRecord
	handler routeHandler
}

// A routeHandler serves the forwarded commands of one target. It runs under the
// node's lock: it must not wait.
type routeHandler interface{}

func newRouteTable(limits keep.Limits, clock *keep.Clock, journal *journal) *routeTable {
	r := &routeTable{age: limits.Age, clock: clock, journal: journal, local: make(map[Target]localRoute)}
	r.forwards = keep.NewMap[Target, route, source](limits, func(t Target, _ route, _ keep.Reason) {
		journal.remove(kindRoute, t[:])
	}).GroupBy(storeNetwork)
	return r
}

// listen makes a server of this node known. It returns false if there is one
// with this key already.
func (r *routeTable) listen(key PublicKey, handler routeHandler) bool {
	target := TargetOf(key)
	if _, taken := r.local[target]; taken {
		return false
	}
	r.local[target] = localRoute{record: peerRecord{key: key}, handler: handler}
	return true
}

// unlisten removes the server of a key.
func (r *routeTable) unlisten(key PublicKey) { delete(r.local, TargetOf(key)) }

// server returns the server of this node under a target, nil if there is none.
func (r *routeTable) server(target Target) routeHandler { return r.local[target].handler }

// relay returns the address to which to forward what is for a target. It counts
// as a use of the route. The time is what the clocks read.
func (r *routeTable) relay(reading time.Time, target Target) (to netip.AddrPort, ok bool) {
	way, ok := r.use(r.clock.Now(reading), target)
	if !ok {
		return to, false
	}
	return way.addr(), true
}

// record returns what FIND_PEER and LOOKUP answer for a target. It counts as a
// use of the route. The time is store time.
func (r *routeTable) record(now time.Time, target Target) (peerRecord, bool) {
	if l, ok := r.local[target]; ok {
		return l.record, true
	}
	way, ok := r.use(now, target)
	return peerRecord{key: way.key, relays: way.relays.addrs()}, ok
}

func (r *routeTable) use(now time.Time, target Target) (route, bool) {
	way, stamp, ok := r.forwards.Get(now, target)
	if ok && r.age > 0 && now.Sub(stamp) > part(r.age, renewPart) {
		r.forwards.Renew(now, target)
		r.journal.renew(now, kindRoute, target[:])
	}
	return way, ok
}

// set makes a route to a peer that announced itself, replacing an earlier one.
func (r *routeTable) set(now time.Time, target Target, way route) {
	r.forwards.Put(now, target, way, source(way.relay[:4]))
	r.journal.put(now, kindRoute, target[:], way.append(nil))
}

// remove deletes the forwarding route of a target.
func (r *routeTable) remove(target Target) { r.forwards.Delete(target) }

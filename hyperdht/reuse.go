package hyperdht

import (
	"net/netip"
	"sync"

	"github.com/warren-dht/warren/udp"
)

// reusableRoutes remember, for each peer with which both ends wanted that, the
// socket and the address of a connection: while the socket lives, the next
// connection to the peer takes them and needs neither relay nor punch (spec
// §10.2). Safe for concurrent use.
type reusableRoutes struct {
	mu  sync.Mutex
	all map[PublicKey]reusableRoute
}

type reusableRoute struct {
	conn udp.Conn
	peer netip.AddrPort
}

// maxReusableRoutes bounds reusableRoutes; it forgets any one beyond.
const maxReusableRoutes = 4096

// get returns the route to a peer; ok is false if there is none whose socket is
// open.
func (r *reusableRoutes) get(n *Node, key PublicKey) (route reusableRoute, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	route, ok = r.all[key]
	if ok && n.sockets.find(route.conn) == nil && route.conn != n.rpc.Conn() {
		delete(r.all, key)
		return route, false
	}
	return route, ok
}

// put notes the path of an open connection, unless it is relayed.
func (r *reusableRoutes) put(key PublicKey, c *Conn) {
	now := c.link.candidate()
	if now.kind == PathRelayed {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[PublicKey]reusableRoute{}
	}
	if len(r.all) >= maxReusableRoutes {
		for k := range r.all {
			delete(r.all, k)
			break
		}
	}
	r.all[key] = reusableRoute{now.conn, now.remote}
}

// forget drops a route that led nowhere.
func (r *reusableRoutes) forget(key PublicKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, key)
}

package hyperdht

import (
	"net/netip"
	"slices"
	"sync"
)

// maxKnownPeers bounds a relayCache; 512 as in the reference (spec §5.3).
const maxKnownPeers = 512

// A relayCache remembers, for each key that was connected to, the nodes through
// which it could be found, for the next dial. The oldest entries give way.
// Safe for concurrent use.
type relayCache struct {
	mu    sync.Mutex
	nodes map[PublicKey][]netip.AddrPort
	order []PublicKey // oldest first
}

func (c *relayCache) get(key PublicKey) []netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[key]
}

// put notes what a server's answer says about where it can be found.
func (c *relayCache) put(key PublicKey, a *dialAnswer) {
	nodes := a.payload.relayAddresses
	if len(nodes) == 0 && a.relayed {
		nodes = []netip.AddrPort{a.relay}
	}
	if len(nodes) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes == nil {
		c.nodes = map[PublicKey][]netip.AddrPort{}
	}
	if i := slices.Index(c.order, key); i >= 0 {
		c.order = slices.Delete(c.order, i, i+1)
	}
	c.order = append(c.order, key)
	if len(c.order) > maxKnownPeers {
		delete(c.nodes, c.order[0])
		c.order = c.order[1:]
	}
	c.nodes[key] = nodes
}

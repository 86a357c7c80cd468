package dhtrpc

import "net/netip"

// NodeID returns the id of the node that serves the request; ok is false while
// it is ephemeral. It is for handlers, which must not call [Node.ID]: many
// applications serve some commands only while they have an id, and some have
// signatures made over it. docs/spec/dht-rpc.md §11.
func (r *Request) NodeID() (id ID, ok bool) {
	if r.core == nil || r.core.ephemeral {
		return ID{}, false
	}
	return r.core.table.Own(), true
}

// NodeID returns the id of the node, as [Request.NodeID] does.
func (p *Pending) NodeID() (id ID, ok bool) { return p.node.ID() }

// Knows reports whether a node with that address is in the routing table, for
// handlers.
func (r *Request) Knows(a netip.AddrPort) bool {
	if r.core == nil || !addressable(a) {
		return false
	}
	n := r.core.table.Get(IDOf(a))
	return n != nil && n.Addr == a
}

// Knows reports whether a node with that address is in the routing table.
func (p *Pending) Knows(a netip.AddrPort) bool {
	return read(p.node, func(c *core) bool { return (&Request{core: c}).Knows(a) })
}

package mainline

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// A Contact is a node: its id and its UDP address.
type Contact struct {
	ID   ID
	Addr netip.AddrPort
}

// contactJSON is a node as bittorrent-dht's toJSON writes it, with its id.
type contactJSON struct {
	ID   ID     `json:"id,omitzero"`
	Host string `json:"host"`
	Port uint16 `json:"port"`
}

// MarshalJSON writes {"id", "host", "port"}.
func (c Contact) MarshalJSON() ([]byte, error) {
	return json.Marshal(contactJSON{c.ID, c.Addr.Addr().String(), c.Addr.Port()})
}

// UnmarshalJSON reads {"host", "port"}, with or without "id".
func (c *Contact) UnmarshalJSON(b []byte) error {
	var j contactJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	ip, err := netip.ParseAddr(j.Host)
	if err != nil {
		return fmt.Errorf("mainline: node: %w", err)
	}
	*c = Contact{j.ID, netip.AddrPortFrom(ip.Unmap(), j.Port)}
	return nil
}

// checkID refuses ids of another length than the network's.
func (n *Node) checkID(id ID) error {
	if int(id.n) != n.idLen {
		return fmt.Errorf("mainline: an id of %d bytes in a network of %d", id.n, n.idLen)
	}
	return nil
}

// socketFor is the socket that talks to addresses of a family.
func (n *Node) socketFor(a netip.AddrPort) (*socket, error) {
	if !usable(a) {
		return nil, fmt.Errorf("mainline: %v cannot be asked", a)
	}
	if s := n.byFamily[family(a.Addr().Is6())]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("mainline: no socket of the family of %v", a)
}

// query asks one node and waits for its answer, which m will hold. An
// IPv4-mapped address, as package net likes to return it, is one of IPv4.
func (n *Node) query(ctx context.Context, a netip.AddrPort, req *request, m *message) (Contact, error) {
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	s, err := n.socketFor(a)
	if err != nil {
		return Contact{}, err
	}
	var e event
	f := n.newFan(1, func(x event) { e = x })
	defer f.end()
	if err := f.send(ctx, s, req, query{to: a}); err != nil {
		return Contact{}, err
	}
	if err := f.wait(ctx); err != nil {
		return Contact{}, err
	}
	switch {
	case e.kind != queryAnswer:
		return Contact{}, e.err
	case m.parse(e.data) != nil:
		return Contact{}, errMessage
	case m.kind == 'e':
		return Contact{}, m.error()
	}
	return Contact{ID: n.id(toKey(m.body.id)), Addr: a}, nil
}

// Ping asks whether a node lives, and returns it with its id. The error is
// [ErrTimeout], an [*Error], the context's, or [ErrClosed].
func (n *Node) Ping(ctx context.Context, a netip.AddrPort) (Contact, error) {
	var m message
	return n.query(ctx, a, &request{method: methodPing}, &m)
}

// FindNode asks one node for the nodes nearest to a target that it knows.
func (n *Node) FindNode(ctx context.Context, a netip.AddrPort, target ID) ([]Contact, error) {
	if err := n.checkID(target); err != nil {
		return nil, err
	}
	var m message
	if _, err := n.query(ctx, a, &request{method: methodFindNode, target: target.key}, &m); err != nil {
		return nil, err
	}
	return n.contacts(&m.body, a), nil
}

// contacts are the usable nodes in an answer.
func (n *Node) contacts(b *body, from netip.AddrPort) (list []Contact) {
	for _, x := range []struct {
		nodes []byte
		size  int
	}{{b.nodes, peer4Size}, {b.nodes6, peer6Size}} {
		for len(list) < maxNodesTaken {
			c, rest, ok := nextNode(x.nodes, n.idLen, x.size)
			if !ok {
				break
			}
			x.nodes = rest
			if routable(c.Addr, from.Addr()) {
				list = append(list, Contact{ID: n.id(c.ID), Addr: c.Addr})
			}
		}
	}
	return list
}

// Closest walks to a target and returns the nodes nearest to it that answered,
// nearest first: up to eight of each family.
func (n *Node) Closest(ctx context.Context, target ID) ([]Contact, error) {
	if err := n.checkID(target); err != nil {
		return nil, err
	}
	w := n.newWalk(request{method: methodGetPeers, target: target.key}, n.oneEach())
	err := w.run(ctx)
	n.finished(w)
	var list []Contact
	for _, p := range w.parts {
		for _, c := range p.search.Closest() {
			list = append(list, Contact{ID: n.id(c.ID), Addr: c.Addr})
		}
	}
	return list, err
}

// A Sample is a part of the info-hashes that a node stores (BEP 51).
type Sample struct {
	Node     Contact
	Hashes   []ID
	Num      int           // how many it stores in all, as it says
	Interval time.Duration // for how long it will return the same ones
	Nodes    []Contact     // near the target
}

// Sample asks a node for info-hashes that it stores, and for nodes near a
// target (BEP 51). A node that does not support this answers with an [*Error],
// not at all, or without samples, which is an error as well.
func (n *Node) Sample(ctx context.Context, a netip.AddrPort, target ID) (Sample, error) {
	if err := n.checkID(target); err != nil {
		return Sample{}, err
	}
	var m message
	node, err := n.query(ctx, a, &request{method: methodSample, target: target.key}, &m)
	if err != nil {
		return Sample{}, err
	}
	s := Sample{
		Node:     node,
		Num:      int(max(0, m.body.num)),
		Interval: time.Duration(min(max(0, m.body.interval), maxInterval)) * time.Second,
		Nodes:    n.contacts(&m.body, a),
	}
	if !m.body.any(hasSamples) {
		return s, &Error{CodeUnknownMethod, "the node returned no samples"}
	}
	for b := m.body.samples; len(b) >= n.idLen; b = b[n.idLen:] {
		s.Hashes = append(s.Hashes, n.id(toKey(b[:n.idLen])))
	}
	return s, nil
}

// maxInterval is the longest interval of BEP 51, in seconds.
const maxInterval = 21600

// AddNode pings a node and enters it into the routing table if it answers, as
// when a peer of a torrent tells its DHT port (BEP 5, the PORT message).
func (n *Node) AddNode(ctx context.Context, a netip.AddrPort) (Contact, error) {
	return n.Ping(ctx, a) // every answer goes into the table
}

// RemoveNode takes a node out of the routing tables.
func (n *Node) RemoveNode(id ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sockets {
		if n.checkID(id) == nil {
			s.routes.remove(time.Now(), id.key)
		}
	}
}

// Nodes are the nodes in the routing tables, the last heard from first.
func (n *Node) Nodes() (list []Contact) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sockets {
		for x := range s.routes.table.All() {
			list = append(list, Contact{ID: n.id(x.ID), Addr: x.Addr})
		}
	}
	return list
}

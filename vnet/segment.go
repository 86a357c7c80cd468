package vnet

import (
	"fmt"
	"net/netip"
)

// Segment is a network in which hosts reach each other by their addresses: the
// public internet, or what lies behind a router. Its hosts hang on it by a link
// each. Safe for concurrent use.
type Segment struct {
	net     *Network
	link    Link // of what is attached from now on
	routes  map[netip.Addr]*port
	gateway node // takes packets for addresses that are not here; nil: nobody
	free    func(i int) netip.Addr
	given   int
}

// A port is the place where something is attached to a segment.
type port struct {
	up, down pipe
}

func newSegment(n *Network, free func(int) netip.Addr) *Segment {
	return &Segment{net: n, routes: make(map[netip.Addr]*port), free: free}
}

// SetLink sets the link, in both directions, of hosts and routers that are
// attached from now on.
func (s *Segment) SetLink(l Link) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.link = l
}

// attach connects to at its down side.
func (s *Segment) attach(to node) *port {
	pt := &port{}
	pt.up = pipe{Link: s.link, to: s, rand: s.net.rand()}
	pt.down = pipe{Link: s.link, to: to, rand: s.net.rand()}
	return pt
}

// route makes pt the way to addr.
func (s *Segment) route(addr netip.Addr, pt *port) {
	if s.routes[addr] != nil {
		panic(fmt.Sprintf("vnet: address %v is taken", addr))
	}
	s.routes[addr] = pt
}

// address returns an address that is free.
func (s *Segment) address() netip.Addr {
	for {
		a := s.free(s.given)
		s.given++
		if s.routes[a] == nil {
			return a
		}
	}
}

// arrive implements node: a packet came up some link.
func (s *Segment) arrive(p *packet) {
	if pt := s.routes[p.dst.Addr()]; pt != nil {
		s.net.carry(&pt.down, p)
	} else if s.gateway != nil {
		s.gateway.arrive(p)
	} else {
		s.net.drop(p, &s.net.stats.NoRoute)
	}
}

package vnet

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
)

// Segment is a network in which hosts reach each other by their addresses: the
// public internet, or what lies behind a router. Its hosts hang on it by a link
// each. Safe for concurrent use.
type Segment struct {
	net     *Network
	link    Link // of what is attached from now on
	routes  map[netip.Addr]*port
	gateway *Router           // takes packets for addresses that are not here; nil: nobody
	free    func() netip.Addr // the next address to give away

	id, attached uint64 // who this is, and how much was attached so far: luck follows from them
}

// A port is the place where something is attached to a segment.
type port struct {
	up, down pipe
}

func newSegment(n *Network, free func() netip.Addr) *Segment {
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
	s.attached++
	return &port{
		up:   pipe{Link: s.link, to: s, rand: s.rand(s.attached, 0)},
		down: pipe{Link: s.link, to: to, rand: s.rand(s.attached, 1)},
	}
}

// rand returns the generator of something that is attached to the segment. What
// happens in other segments, or later in this one, has no influence on it.
func (s *Segment) rand(link, part uint64) *rand.Rand {
	return rand.New(rand.NewPCG(s.net.seed, mix(mix(s.id, link), part)))
}

// mix makes one number of two (the finalizer of SplitMix64).
func mix(a, b uint64) uint64 {
	x := a*0x9e3779b97f4a7c15 + b
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// route makes pt the way to addr, here and in the networks that reach addr
// through the gateway.
func (s *Segment) route(addr netip.Addr, pt *port) {
	if s.routes[addr] != nil {
		panic(fmt.Sprintf("vnet: address %v is taken", addr))
	}
	s.routes[addr] = pt
	if r := s.gateway; r != nil && !r.translates(addr) {
		r.outer.route(addr, r.port)
	}
}

func (s *Segment) unroute(addr netip.Addr) {
	delete(s.routes, addr)
	if r := s.gateway; r != nil && !r.translates(addr) {
		r.outer.unroute(addr)
	}
}

// address returns an address that is free.
func (s *Segment) address() netip.Addr {
	for {
		if a := s.free(); s.routes[a] == nil {
			return a
		}
	}
}

// arrive implements node: a packet came up the link of a host or an inner router.
func (s *Segment) arrive(p *packet) {
	if s.routes[p.dst.Addr()] == nil && s.gateway != nil {
		s.gateway.arrive(p)
		return
	}
	s.deliver(p)
}

// deliver sends a packet down the link of its destination.
func (s *Segment) deliver(p *packet) {
	pt := s.routes[p.dst.Addr()]
	if pt == nil {
		s.net.drop(p, &s.net.stats.NoRoute)
		return
	}
	s.net.carry(&pt.down, p)
}

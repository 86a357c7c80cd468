package vnet

import (
	"net/netip"
	"time"
)

// Router joins the network behind it, which is its embedded Segment, to another
// one. It takes one from the hop limit of what passes. Safe for concurrent use.
//
//	hosts --- Segment --- Router --- link --- outer segment
type Router struct {
	*Segment

	outer *Segment
	port  *port
	addrs []netip.Addr // of its own, in the outer segment

	nat      *translation // of IPv4; nil: none
	firewall *firewall    // of what is not translated; nil: none
}

// lanLink is the link of hosts behind a router, unless they are given another.
var lanLink = Link{Latency: 500 * time.Microsecond}

// Router attaches a router that neither translates nor filters. Hosts behind it
// have addresses that everybody in s can reach.
func (s *Segment) Router() *Router {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	return s.router(s.address)
}

// Firewall attaches a router that filters. Hosts behind it have addresses that
// s has routes to.
func (s *Segment) Firewall(f Firewall) *Router {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	r := s.router(s.address)
	r.firewall = newFirewall(f)
	return r
}

// NAT attaches a router that translates IPv4 addresses, to the external one
// given or else to the next free one of s. It routes IPv6 and lets in what its
// Filtering lets in.
func (s *Segment) NAT(cfg NAT, external ...netip.Addr) *Router {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	cfg = cfg.withDefaults()
	next := cfg.Inside.Addr().Next() // .1, the router's own
	r := s.router(func() netip.Addr {
		if next = next.Next(); !cfg.Inside.Contains(next) {
			panic("vnet: no address is left in " + cfg.Inside.String())
		}
		return next
	})
	if len(external) == 0 {
		external = []netip.Addr{s.address()}
	}
	r.nat = newTranslation(cfg, external[0], s.rand(s.attached, 2))
	r.firewall = newFirewall(Firewall{Filtering: cfg.Filtering, Timeout: cfg.Timeout})
	r.own(external)
	return r
}

func (s *Segment) router(free func() netip.Addr) *Router {
	r := &Router{Segment: newSegment(s.net, free), outer: s}
	r.Segment.link = lanLink
	r.Segment.gateway = r
	r.port = s.attach(inward{r})
	r.Segment.id = mix(s.id, s.attached)
	return r
}

// own gives the router addresses of its own.
func (r *Router) own(addrs []netip.Addr) {
	for _, a := range r.addrs {
		r.outer.unroute(a)
	}
	r.addrs = addrs
	for _, a := range addrs {
		r.outer.route(a, r.port)
	}
}

// SetUplink sets the link to the outer segment, in both directions. (SetLink is
// about the network behind the router.)
func (r *Router) SetUplink(l Link) { r.SetUplinks(l, l) }

// SetUplinks sets the link towards the outer segment (up) and from it (down).
func (r *Router) SetUplinks(up, down Link) {
	r.net.mu.Lock()
	defer r.net.mu.Unlock()
	r.port.up.Link, r.port.down.Link = up, down
}

// External is the external address of a NAT; that of other routers is invalid.
func (r *Router) External() netip.Addr {
	r.net.mu.Lock()
	defer r.net.mu.Unlock()
	if r.nat == nil {
		return netip.Addr{}
	}
	return r.nat.external
}

// SetExternal gives a NAT another external address, or the next free one of the
// outer segment, as providers do at night. All mappings are lost, forwarded
// ports are not.
func (r *Router) SetExternal(addr ...netip.Addr) {
	r.net.mu.Lock()
	defer r.net.mu.Unlock()
	if r.nat == nil {
		panic("vnet: SetExternal on a router that is no NAT")
	}
	if len(addr) == 0 {
		addr = []netip.Addr{r.outer.address()}
	}
	r.own(addr)
	r.nat.external = addr[0]
	r.nat.reset()
}

// Reset makes a NAT or firewall forget what it knows about the traffic so far, as
// if it had been restarted.
func (r *Router) Reset() {
	r.net.mu.Lock()
	defer r.net.mu.Unlock()
	if r.nat != nil {
		r.nat.reset()
	}
	if r.firewall != nil {
		r.firewall.reset()
	}
}

// Forward makes a NAT send everything that comes to an external port to an
// address behind it, and the other way round.
func (r *Router) Forward(port uint16, to netip.AddrPort) {
	r.net.mu.Lock()
	defer r.net.mu.Unlock()
	r.nat.forward(port, to)
}

// Mappings is how many mappings a NAT holds; other routers hold none.
func (r *Router) Mappings() int {
	r.net.mu.Lock()
	defer r.net.mu.Unlock()
	if r.nat == nil {
		return 0
	}
	r.net.advance()
	r.nat.sweep(r.net.now)
	return len(r.nat.byPort)
}

// translates says whether the router hides addresses of a's family.
func (r *Router) translates(a netip.Addr) bool { return r.nat != nil && a.Is4() }

// hop takes one from the hop limit. It reports false when the packet ends here.
func (r *Router) hop(p *packet) bool {
	if p.ttl <= 1 {
		r.net.drop(p, &r.net.stats.Expired)
		return false
	}
	p.ttl--
	return true
}

// arrive implements node: a packet comes from within and leaves.
func (r *Router) arrive(p *packet) {
	if !r.hop(p) {
		return
	}
	n := r.net
	hairpin := r.translates(p.dst.Addr()) && p.dst.Addr() == r.nat.external
	switch {
	case hairpin && !r.nat.Hairpin:
		n.drop(p, &n.stats.Filtered)
		return
	case r.translates(p.src.Addr()):
		if !r.nat.out(p, n.now) {
			n.drop(p, &n.stats.Filtered)
			return
		}
	case r.firewall != nil && !r.firewall.out(p, n.now):
		n.drop(p, &n.stats.Filtered)
		return
	}
	if hairpin {
		r.enter(p)
		return
	}
	n.carry(&r.port.up, p)
}

// inward is the router as its outer segment sees it.
type inward struct{ r *Router }

func (i inward) arrive(p *packet) {
	if i.r.hop(p) {
		i.r.enter(p)
	}
}

// enter lets a packet in that comes from without.
func (r *Router) enter(p *packet) {
	n := r.net
	switch {
	case r.translates(p.dst.Addr()):
		if !r.nat.in(p, n.now) {
			n.drop(p, &n.stats.Filtered)
			return
		}
	case r.firewall != nil && !r.firewall.in(p, n.now):
		n.drop(p, &n.stats.Filtered)
		return
	}
	r.Segment.deliver(p)
}

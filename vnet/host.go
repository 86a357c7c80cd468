package vnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/warren-dht/warren/udp"
)

// Host is a machine. It implements [udp.Network]. Safe for concurrent use.
type Host struct {
	net *Network

	// Guarded by the network's mutex.
	seg      *Segment
	port     *port
	addrs    []netip.Addr
	down     bool
	conns    map[netip.AddrPort]*conn // by bound address
	filter   Filter
	nextPort uint16
	watchers map[chan struct{}]context.Context

	// How many sockets hold a port, on whatever address of the family.
	held map[family]int
}

type family struct {
	port uint16
	is4  bool
}

func familyOf(a netip.AddrPort) family { return family{a.Port(), a.Addr().Is4()} }

// Host attaches a host with these addresses, or with the next free one of the
// segment if there are none. It panics if an address is taken.
func (s *Segment) Host(addrs ...netip.Addr) *Host {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	h := &Host{
		net:      s.net,
		conns:    make(map[netip.AddrPort]*conn),
		watchers: make(map[chan struct{}]context.Context),
		held:     make(map[family]int),
		nextPort: firstEphemeral,
	}
	h.enter(s, addrs)
	s.net.hosts = append(s.net.hosts, h)
	return h
}

// enter attaches the host to a segment.
func (h *Host) enter(s *Segment, addrs []netip.Addr) {
	if len(addrs) == 0 {
		addrs = []netip.Addr{s.address()}
	}
	h.seg, h.port, h.addrs = s, s.attach(h), slices.Clone(addrs)
	for _, a := range h.addrs {
		s.route(a, h.port)
	}
}

// leave takes the host's addresses out of its segment.
func (h *Host) leave() {
	for _, a := range h.addrs {
		h.seg.unroute(a)
	}
}

// SetLink sets the host's link in both directions.
func (h *Host) SetLink(l Link) { h.SetLinks(l, l) }

// SetLinks sets the host's link, towards the network (up) and from it (down).
func (h *Host) SetLinks(up, down Link) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.port.up.Link, h.port.down.Link = up, down
}

// Filter is a host's own firewall. Nil functions let everything pass, others
// report whether a datagram may. They are called with the network's lock held and
// must not use the network.
type Filter struct {
	In, Out func(local, remote netip.AddrPort) bool
}

// NotPrivate is a filter function that lets nothing pass from or to the private
// networks of RFC 1918 and RFC 4193.
func NotPrivate(_, remote netip.AddrPort) bool { return !remote.Addr().IsPrivate() }

// SetFilter sets the host's own firewall. What the host sends to itself does not
// pass it.
func (h *Host) SetFilter(f Filter) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.filter = f
}

// Move takes the host to a segment, the same one or another, with new addresses
// as Segment.Host has them and a fresh link of that segment. Sockets stay open;
// those bound to an address that is gone hear nothing any more. Watch fires.
func (h *Host) Move(s *Segment, addrs ...netip.Addr) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.leave()
	h.enter(s, addrs)
	h.changed()
}

// SetUp takes the host's interface down or up. A host that is down sends and
// hears nothing but itself. Watch fires on a change.
func (h *Host) SetUp(up bool) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.down == !up {
		return
	}
	h.down = !up
	h.changed()
}

// Addr is the host's first address.
func (h *Host) Addr() netip.Addr {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.addrs[0]
}

// Addrs implements [udp.Network].
func (h *Host) Addrs() ([]netip.Addr, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	list := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	if !h.down {
		list = append(list, h.addrs...)
	}
	return list, nil
}

// Watch implements [udp.Network].
func (h *Host) Watch(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.watchers[c] = ctx
	context.AfterFunc(ctx, func() {
		h.net.mu.Lock()
		defer h.net.mu.Unlock()
		delete(h.watchers, c)
		close(c)
	})
	return c
}

func (h *Host) changed() {
	for c, ctx := range h.watchers {
		if ctx.Err() != nil {
			continue
		}
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// firstEphemeral is the first port that a host chooses for port 0 (RFC 6335 §6).
const firstEphemeral = 49152

// Listen implements [udp.Network]. The zero AddrPort is 0.0.0.0:0.
func (h *Host) Listen(addr netip.AddrPort) (udp.Conn, error) {
	if !addr.Addr().IsValid() {
		addr = netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port())
	}
	ip, pt := addr.Addr().Unmap(), addr.Port()
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.closed {
		return nil, fmt.Errorf("vnet: listen %v: %w", addr, net.ErrClosed)
	}
	if !ip.IsUnspecified() && !ip.IsLoopback() && !slices.Contains(h.addrs, ip) {
		return nil, fmt.Errorf("vnet: listen %v: %w", addr, syscall.EADDRNOTAVAIL)
	}
	if pt == 0 {
		for range 1 << 16 {
			if pt = h.nextPort; h.nextPort == 65535 {
				h.nextPort = firstEphemeral
			} else {
				h.nextPort++
			}
			if !h.taken(ip, pt) {
				break
			}
		}
	}
	if h.taken(ip, pt) {
		return nil, fmt.Errorf("vnet: listen %v: %w", addr, syscall.EADDRINUSE)
	}
	c := newConn(h, netip.AddrPortFrom(ip, pt))
	h.conns[c.local] = c
	h.held[familyOf(c.local)]++
	return c, nil
}

// forget ends what Listen began.
func (h *Host) forget(c *conn) {
	if h.conns[c.local] != c {
		return
	}
	delete(h.conns, c.local)
	f := familyOf(c.local)
	if h.held[f]--; h.held[f] == 0 {
		delete(h.held, f)
	}
}

// taken says whether a socket of the same family holds the port on ip, or on all
// addresses.
func (h *Host) taken(ip netip.Addr, pt uint16) bool {
	if ip.IsUnspecified() {
		return h.held[family{pt, ip.Is4()}] > 0
	}
	return h.socket(netip.AddrPortFrom(ip, pt)) != nil
}

// socket finds the socket that hears what is sent to dst.
func (h *Host) socket(dst netip.AddrPort) *conn {
	if c := h.conns[dst]; c != nil {
		return c
	}
	if dst.Addr().Is4() {
		return h.conns[netip.AddrPortFrom(netip.IPv4Unspecified(), dst.Port())]
	}
	return h.conns[netip.AddrPortFrom(netip.IPv6Unspecified(), dst.Port())]
}

// source is the address that a datagram to dst bears.
func (h *Host) source(bound, dst netip.Addr) (netip.Addr, bool) {
	if !bound.IsUnspecified() {
		return bound, bound.Is4() == dst.Is4()
	}
	if dst.IsLoopback() {
		return dst, bound.Is4() == dst.Is4()
	}
	for _, a := range h.addrs {
		if a.Is4() == dst.Is4() && a.Is4() == bound.Is4() {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// send puts a packet of one of the host's sockets on its way.
func (h *Host) send(p *packet) {
	dst := p.dst.Addr()
	switch {
	case dst.IsLoopback() || slices.Contains(h.addrs, dst):
		h.deliver(p)
	case h.down || p.src.Addr().IsLoopback() || !slices.Contains(h.addrs, p.src.Addr()):
		h.net.drop(p, &h.net.stats.NoRoute)
	case h.filter.Out != nil && !h.filter.Out(p.src, p.dst):
		h.net.drop(p, &h.net.stats.Filtered)
	default:
		h.net.carry(&h.port.up, p)
	}
}

// arrive implements node.
func (h *Host) arrive(p *packet) {
	if h.down || !slices.Contains(h.addrs, p.dst.Addr()) {
		h.net.drop(p, &h.net.stats.NoRoute)
		return
	}
	if h.filter.In != nil && !h.filter.In(p.dst, p.src) {
		h.net.drop(p, &h.net.stats.Filtered)
		return
	}
	h.deliver(p)
}

func (h *Host) deliver(p *packet) {
	c := h.socket(p.dst)
	if c == nil {
		h.net.drop(p, &h.net.stats.NoSocket)
		return
	}
	if !c.put(p) {
		h.net.drop(p, &h.net.stats.Overflow)
		return
	}
	h.net.stats.Delivered++
}

package vnet

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/nat"
)

// NAT says how a router translates, in the words of RFC 4787. The zero value is
// the friendliest one; see [Cone], [Symmetric] and [CarrierGrade] for those that
// one meets.
type NAT struct {
	Mapping   nat.Mapping
	Filtering nat.Filtering
	// Ports is how external ports are chosen (§4.2).
	Ports Ports
	// Timeout is how long a mapping lives after the last datagram that refreshed
	// it (§4.3); 0 is two minutes.
	Timeout time.Duration
	// InboundRefresh lets datagrams from without refresh a mapping, too.
	InboundRefresh bool
	// Hairpin lets hosts behind the NAT reach each other at their external
	// addresses (§6); they appear with theirs.
	Hairpin bool
	// Fragile makes the NAT do as Linux does when its own firewall does not drop
	// unsolicited datagrams: it takes them for a flow of its own, and what is
	// sent to that remote end later gets a mapping of its own with another port
	// (docs/spec/hyperdht-connect.md §16.1). Who punches must not arrive early.
	Fragile bool
	// Inside is the private network; the zero value is 192.168.1.0/24.
	Inside netip.Prefix
}

// Ports is how a NAT chooses external ports.
type Ports uint8

const (
	// PreservePorts takes the internal port if it is free, else the next one.
	PreservePorts Ports = iota
	// SequentialPorts counts up.
	SequentialPorts
	// RandomPorts draws one.
	RandomPorts
)

// Kinds of NAT that one meets.
var (
	// Cone is the usual home router: its mapping is predictable, its filter strict.
	Cone = NAT{Filtering: nat.AddressAndPortDependentFiltering}
	// Symmetric is the router that punching finds hard.
	Symmetric = NAT{
		Mapping:   nat.AddressAndPortDependentMapping,
		Filtering: nat.AddressAndPortDependentFiltering,
		Ports:     RandomPorts,
	}
	// CarrierGrade is a provider's NAT by RFC 6888: home routers hang on it.
	CarrierGrade = NAT{
		Filtering: nat.AddressAndPortDependentFiltering,
		Ports:     RandomPorts,
		Hairpin:   true,
		Inside:    netip.MustParsePrefix("100.64.0.0/10"),
	}
)

// defaultTimeout is the shortest that RFC 4787 allows (REQ-5).
const defaultTimeout = 2 * time.Minute

func (c NAT) withDefaults() NAT {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if !c.Inside.IsValid() {
		c.Inside = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 1, 0}), 24)
	}
	return c
}

// A translation is a NAT at work. Guarded by the network's mutex.
type translation struct {
	NAT
	external netip.Addr
	rand     *rand.Rand

	byFlow map[flow]*mapping
	byPort map[uint16]*mapping
	last   uint16

	forwards map[uint16]netip.AddrPort
	inbound  map[netip.AddrPort]uint16 // forwards the other way round

	// Of a Fragile NAT: flows that began outside, until when they are remembered.
	stale map[outerFlow]time.Duration
}

// A flow is what a mapping is for: an inner socket and as much of the remote end
// as the mapping depends on.
type flow struct{ inside, remote netip.AddrPort }

type outerFlow struct {
	remote netip.AddrPort
	port   uint16
}

// A mapping ties an external port to an inner socket.
type mapping struct {
	flow
	port  uint16
	until time.Duration
	holes pinholes
}

func newTranslation(cfg NAT, external netip.Addr, r *rand.Rand) *translation {
	t := &translation{
		NAT: cfg, external: external, rand: r, last: minPort,
		forwards: make(map[uint16]netip.AddrPort),
		inbound:  make(map[netip.AddrPort]uint16),
	}
	t.reset()
	return t
}

func (t *translation) reset() {
	t.byFlow = make(map[flow]*mapping)
	t.byPort = make(map[uint16]*mapping)
	t.stale = make(map[outerFlow]time.Duration)
}

func (t *translation) forward(port uint16, to netip.AddrPort) {
	t.forwards[port] = to
	t.inbound[to] = port
}

// out translates the source of a packet that leaves. It reports false when there
// is no port for it.
func (t *translation) out(p *packet, now time.Duration) bool {
	if port, ok := t.inbound[p.src]; ok {
		p.src = netip.AddrPortFrom(t.external, port)
		return true
	}
	m := t.find(p.src, p.dst, now)
	if m == nil {
		return false
	}
	m.until = now + t.Timeout
	if !m.holes.pierce(t.Filtering, p.dst, now, t.Timeout) {
		return false
	}
	p.src = netip.AddrPortFrom(t.external, m.port)
	return true
}

// find returns the mapping for a flow, a new one if need be, or nil when no port
// is left.
func (t *translation) find(src, dst netip.AddrPort, now time.Duration) *mapping {
	f := flow{src, behaviourKey(uint8(t.Mapping), dst)}
	if own, ok := t.byFlow[flow{src, dst}]; ok && own.until > now {
		return own
	}
	m := t.byFlow[f]
	if m != nil && m.until <= now {
		t.remove(m)
		m = nil
	}
	port := src.Port()
	if m != nil {
		port = m.port
	}
	if t.stale[outerFlow{dst, port}] > now {
		f, m = flow{src, dst}, nil
		port = t.next(port)
	}
	if m != nil {
		return m
	}
	if port = t.free(port, now); port == 0 {
		return nil
	}
	m = &mapping{flow: f, port: port, holes: make(pinholes)}
	t.byFlow[f], t.byPort[port] = m, m
	return m
}

func (t *translation) remove(m *mapping) {
	delete(t.byFlow, m.flow)
	delete(t.byPort, m.port)
}

// minPort is the first external port that is given away (RFC 4787 §4.2.2).
const minPort = 1024

// free chooses an external port; wish is the one that preservation asks for. It
// returns 0 when none is left.
func (t *translation) free(wish uint16, now time.Duration) uint16 {
	if len(t.byPort) >= maxStates {
		t.sweep(now)
		if len(t.byPort) >= maxStates {
			return 0
		}
	}
	port := max(wish, minPort)
	switch t.Ports {
	case SequentialPorts:
		port = t.next(t.last)
	case RandomPorts:
		port = minPort + uint16(t.rand.IntN(1<<16-minPort))
	}
	for range 1<<16 - minPort {
		m := t.byPort[port]
		if m != nil && m.until <= now {
			t.remove(m)
			m = nil
		}
		if _, forwarded := t.forwards[port]; m == nil && !forwarded {
			t.last = port
			return port
		}
		port = t.next(port)
	}
	return 0
}

func (t *translation) next(port uint16) uint16 {
	if port == 1<<16-1 {
		return minPort
	}
	return max(port+1, minPort)
}

// in translates the destination of a packet that comes from without. It reports
// false when the packet may not come in.
func (t *translation) in(p *packet, now time.Duration) bool {
	port := p.dst.Port()
	if to, ok := t.forwards[port]; ok {
		p.dst = to
		return true
	}
	m := t.byPort[port]
	if m == nil || m.until <= now || !m.holes.admits(t.Filtering, p.src, now) {
		if t.Fragile {
			if len(t.stale) >= maxStates {
				clear(t.stale)
			}
			t.stale[outerFlow{p.src, port}] = now + t.Timeout
		}
		return false
	}
	if t.InboundRefresh {
		m.until = now + t.Timeout
		m.holes.pierce(t.Filtering, p.src, now, t.Timeout)
	}
	p.dst = m.inside
	return true
}

// sweep removes what has expired.
func (t *translation) sweep(now time.Duration) {
	for _, m := range t.byPort {
		if m.until <= now {
			t.remove(m)
		}
	}
}

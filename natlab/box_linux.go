package natlab

import (
	"fmt"
	"net/netip"
)

// Box is a router with private networks behind it.
type Box struct {
	lab   *Lab
	class Class
	end   end
	ns    string
	wan   netip.Addr
	hosts int

	carrierNS string // the provider's box, of class CarrierGrade
}

// Box adds a box of the class.
func (l *Lab) Box(c Class) *Box {
	l.t.Helper()
	e := l.end()
	b := &Box{lab: l, class: c, end: e, wan: e.public(0, 2)}
	b.ns = l.namespace(fmt.Sprintf("box%d", e.n))
	if c == CarrierGrade {
		b.carrier()
	} else {
		l.attach(e, b.ns, "wan")
	}
	if c.public() {
		for lan := range 2 {
			l.in(l.core, "ip", "route", "add", netip.PrefixFrom(b.inside(lan, 0), 24).String(), "via", e.public(0, 2).String())
		}
	}
	// Every box has two private networks; rules name both interfaces.
	for i, lan := range []string{"lan", "lan2"} {
		l.in(b.ns, "ip", "link", "add", lan, "type", "bridge")
		l.in(b.ns, "ip", "link", "set", lan, "up")
		l.address(b.ns, lan, b.inside(i, 1), 24)
	}
	l.nft(b.ns, rules(c, b.wan, b.inside(0, 2)))
	return b
}

// carrier puts a provider's box between this one and the core.
func (b *Box) carrier() {
	l := b.lab
	l.t.Helper()
	ns := l.namespace(fmt.Sprintf("carrier%d", b.end.n))
	b.carrierNS = ns
	l.attach(b.end, ns, "wan")
	l.join(ns, "lan", b.ns, "wan")
	outer := netip.AddrFrom4([4]byte{100, 64, byte(b.end.n), 1})
	b.wan = outer.Next()
	l.address(ns, "lan", outer, 24)
	l.address(b.ns, "wan", b.wan, 24)
	l.in(b.ns, "ip", "route", "add", "default", "via", outer.String())
	l.nft(ns, rules(Consistent, b.end.public(0, 2), netip.Addr{}))
}

// inside is address i of the private network, or of the second one.
func (b *Box) inside(lan, i int) netip.Addr {
	if b.class.public() {
		return b.end.public(1+lan, i)
	}
	return b.end.private(lan, i)
}

// External is the public address at which the hosts behind the box appear. Where
// they have public addresses of their own, it is the box's.
func (b *Box) External() netip.Addr { return b.end.public(0, 2) }

// Host adds a host to the box's first private network.
func (b *Box) Host() *Host {
	b.lab.t.Helper()
	return b.host(0)
}

// Host2 adds a host to the box's second private network. The box routes between
// the two unless its class isolates them.
func (b *Box) Host2() *Host {
	b.lab.t.Helper()
	return b.host(1)
}

func (b *Box) host(lan int) *Host {
	l := b.lab
	l.t.Helper()
	b.hosts++
	ns := l.namespace(fmt.Sprintf("host%d-%d", b.end.n, b.hosts))
	addr := b.inside(lan, 1+b.hosts)
	port := fmt.Sprintf("port%d", b.hosts)
	l.join(b.ns, port, ns, "eth0")
	l.in(b.ns, "ip", "link", "set", port, "master", []string{"lan", "lan2"}[lan])
	l.address(ns, "eth0", addr, 24)
	l.in(ns, "ip", "route", "add", "default", "via", b.inside(lan, 1).String())
	return &Host{lab: l, ns: ns, addrs: []netip.Addr{addr}}
}

// Reset makes the box forget the traffic so far, its mappings included.
func (b *Box) Reset() {
	b.lab.t.Helper()
	namespaces := []string{b.ns}
	if b.carrierNS != "" {
		namespaces = append(namespaces, b.carrierNS)
	}
	for _, ns := range namespaces {
		if err := flushConntrack(ns); err != nil {
			b.lab.t.Fatal(err)
		}
	}
	if b.class == FullCone || b.class == Hairpin {
		b.lab.in(b.ns, "nft", "flush", "map", "ip", "nat", "m")
	}
}

package nat

import (
	"net/netip"
	"slices"
)

// A Class is what HyperDHT peers tell each other about the NAT before a socket
// (in the reference: FIREWALL). The numbers are the wire's.
type Class uint8

const (
	// Unknown means that too little was seen to tell.
	Unknown Class = iota
	// Open means reachable by everybody at a known address.
	Open
	// Consistent is endpoint-independent mapping (RFC 4787 §4.1): everybody sees
	// the socket at the same address.
	Consistent
	// Random is address-and-port-dependent mapping: each destination sees
	// another port.
	Random
)

func (c Class) String() string {
	switch c {
	case Open:
		return "open"
	case Consistent:
		return "consistent"
	case Random:
		return "random"
	}
	return "unknown"
}

// maxClassifierSamples bounds a Classifier; it has decided long before.
const maxClassifierSamples = 64

// A Classifier tells the class of one socket's NAT from the addresses at which
// others saw it (docs/spec/hyperdht-connect.md §7.2). Unlike a [Sampler], which
// follows a node's address for as long as it lives, it decides once, from a few
// samples, each from another node.
//
// The zero value is not usable; see [NewClassifier]. A value without a lock.
type Classifier struct {
	firewalled bool
	frozen     bool
	class      Class
	addrs      []netip.AddrPort
	from       []netip.AddrPort
	hosts      []hits // most hits first; equal ones in the order of their coming
	seen       []hits
}

type hits struct {
	addr netip.AddrPort
	n    int
}

// NewClassifier starts one for a socket of a node that is firewalled, or not.
// In the latter case the class is Open from the start.
func NewClassifier(firewalled bool) *Classifier {
	c := &Classifier{firewalled: firewalled}
	if !firewalled {
		c.class = Open
	}
	return c
}

// Class is the class as far as it is known.
func (c *Classifier) Class() Class { return c.class }

// Addrs are the addresses to tell the other side: none while the class is
// Unknown or Open, the host with port 0 if it is Random. The slice is the
// classifier's own.
func (c *Classifier) Addrs() []netip.AddrPort { return c.addrs }

// Len is the number of samples that counted.
func (c *Classifier) Len() int { return len(c.from) }

// Done reports whether further samples are not needed to decide.
func (c *Classifier) Done() bool {
	return len(c.from) > 0 && (c.class == Open || c.class == Consistent) || len(c.from) >= 4
}

// Freeze keeps the class and addresses as they are, whatever is sampled later.
func (c *Classifier) Freeze() { c.frozen = true }

// Add says that from saw the socket at addr. Only the first sample of each
// node counts.
func (c *Classifier) Add(addr, from netip.AddrPort) {
	if slices.Contains(c.from, from) || len(c.from) == maxClassifierSamples || !addr.IsValid() {
		return
	}
	c.from = append(c.from, from)
	c.hosts = count(c.hosts, netip.AddrPortFrom(addr.Addr(), 0))
	c.seen = count(c.seen, addr)
	if !c.frozen && (len(c.from) >= 3 || !c.firewalled) {
		c.decide()
	}
}

// count adds one hit and moves the entry before those with fewer.
func count(list []hits, a netip.AddrPort) []hits {
	i := slices.IndexFunc(list, func(h hits) bool { return h.addr == a })
	if i < 0 {
		return append(list, hits{a, 1})
	}
	list[i].n++
	for ; i > 0 && list[i-1].n < list[i].n; i-- {
		list[i-1], list[i] = list[i], list[i-1]
	}
	return list
}

func (c *Classifier) decide() {
	switch n, top := len(c.from), c.seen[0].n; {
	case !c.firewalled:
		c.class = Open
	case top >= 3:
		c.class = Consistent
	case top == 1:
		c.class = Random
	case len(c.hosts) == 1 && n > 3:
		c.class = Random
	case len(c.hosts) > 1 && len(c.seen) > 1 && c.seen[1].n > 1:
		c.class = Consistent
	case n > 4:
		c.class = Random
	}
	switch c.class {
	case Unknown:
		c.addrs = nil
	case Random:
		c.addrs = []netip.AddrPort{c.hosts[0].addr}
	case Consistent:
		c.addrs = nil
		for _, h := range c.seen {
			if h.n >= 2 || len(c.addrs) < 2 {
				c.addrs = append(c.addrs, h.addr)
			}
		}
	}
}

// Package vnet is an internet in memory: hosts, links, routers, NATs and
// firewalls. Its hosts implement [udp.Network], so whatever is built on package
// udp runs on it unchanged, in real time or, inside a bubble of testing/synctest,
// in virtual time.
//
//	n := vnet.New(1)
//	defer n.Close()
//	server := n.Host()         // a public host with a free address
//	home := n.NAT(vnet.Cone)   // a home router with a network behind it
//	laptop := home.Host()
//	laptop.SetLink(vnet.Link{Latency: 20 * time.Millisecond, Loss: 0.01})
//	conn, err := laptop.Listen(netip.AddrPort{})
//
// There is no goroutine per host, link or datagram: deliveries wait in one heap
// and one timer carries them out. All addresses, ports and luck follow from the
// seed; each direction of a link draws from a generator of its own, so that one
// more datagram elsewhere does not change what happens here.
//
// Left out on purpose: everything but UDP, fragments (a datagram above the MTU is
// dropped), ICMP (nobody above package udp sees it), and routes other than the
// tree that the houses form.
package vnet

import (
	"net/netip"
	"sync"
	"time"
)

// Network is a whole virtual internet; its embedded Segment is the public part.
// Safe for concurrent use.
type Network struct {
	*Segment

	seed uint64
	base time.Time
	pool sync.Pool // of *packet

	mu     sync.Mutex    // guards everything below, and all segments, links and routers
	now    time.Duration // since base; time of the event that is being carried out
	events heap
	timer  *time.Timer
	armed  time.Duration // when the timer fires; 0: it is not set
	closed bool
	stats  Stats
	hosts  []*Host
}

// Stats counts datagrams by their fate.
type Stats struct {
	Sent      uint64 // by sockets
	Delivered uint64 // to sockets' queues

	Lost     uint64 // by a link's Loss
	TooBig   uint64 // for a link's MTU
	Overflow uint64 // of a link's or a socket's queue
	Expired  uint64 // hop limit reached zero
	NoRoute  uint64 // nobody has the address, or the host is down
	NoSocket uint64 // nobody listens on the port
	Filtered uint64 // by a NAT or a firewall
}

// New returns an empty internet. Equal seeds give equal addresses and luck. Unless
// told otherwise, what hangs on the public part has a link of 10 ms and 4 hops in
// each direction, so that low hop limits die half-way, and what hangs on a router
// one of 0.5 ms without hops. Made within a bubble, the internet belongs to it and
// runs in its virtual time; made elsewhere, it runs in real time.
func New(seed uint64) *Network {
	n := &Network{seed: seed, base: time.Now()}
	n.pool.New = func() any { return new(packet) }
	given := 0
	n.Segment = newSegment(n, func() netip.Addr {
		given++
		return publicAddr(given - 1)
	})
	n.Segment.link = Link{Latency: 10 * time.Millisecond, Hops: 4}
	return n
}

// Close closes all sockets and drops what is under way. Nothing runs afterwards.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	n.events = heap{}
	if n.timer != nil {
		n.timer.Stop()
	}
	var open []*conn
	for _, h := range n.hosts {
		for _, c := range h.conns {
			open = append(open, c)
		}
	}
	n.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
}

// Stats returns the counters.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// publicAddr is the i-th public address that New's segment gives away; 20,480 of
// them have a /16 network each.
func publicAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(20 + i%80), byte(i / 80), byte(i / 20480), byte(1 + i/(20480*256))})
}

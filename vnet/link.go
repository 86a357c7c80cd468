package vnet

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

type addrPort = netip.AddrPort

// Link is what a cable does to datagrams, in one direction. The zero value
// carries everything at once.
type Link struct {
	// Latency is how long a datagram travels; Jitter is the most that luck adds
	// to it. Jitter alone changes no order.
	Latency, Jitter time.Duration
	// Loss, Duplicate and Reorder are probabilities between 0 and 1. A datagram
	// that is reordered arrives late by up to ReorderBy, behind later ones.
	Loss, Duplicate, Reorder float64
	// ReorderBy is at most how late; 0 means the latency, or a millisecond if
	// there is none.
	ReorderBy time.Duration
	// Rate is in bytes a second, IP headers included; 0 is without bound. Queue is how
	// many bytes wait for it at most; 0 means 64 KiB.
	Rate, Queue int
	// MTU is the size of the largest IP packet, 0 means 1500. Larger ones are
	// dropped: nothing is ever fragmented.
	MTU int
	// Hops is how many routers stand along the link and take one from the hop
	// limit each, apart from the routers that the segments have anyway.
	Hops int
}

// A pipe is one direction of a link at work. Guarded by the network's mutex.
type pipe struct {
	Link
	to   node
	rand *rand.Rand
	free time.Duration // when the last bit of what is queued has left
	last time.Duration // latest arrival so far of what was not reordered
}

// carry sends p through the pipe.
func (n *Network) carry(l *pipe, p *packet) {
	mtu := l.MTU
	if mtu == 0 {
		mtu = 1500
	}
	size := p.size()
	switch {
	case size > mtu:
		n.drop(p, &n.stats.TooBig)
		return
	case l.Hops > 0 && int(p.ttl) <= l.Hops:
		n.drop(p, &n.stats.Expired)
		return
	case l.Loss > 0 && l.rand.Float64() < l.Loss:
		n.drop(p, &n.stats.Lost)
		return
	}
	p.ttl -= uint8(l.Hops)
	at := n.now
	if l.Rate > 0 {
		at = max(at, l.free)
		queue := l.Queue
		if queue == 0 {
			queue = 64 << 10
		}
		if waiting := float64(at-n.now) / float64(time.Second) * float64(l.Rate); int(waiting)+size > max(queue, size) {
			n.drop(p, &n.stats.Overflow)
			return
		}
		at += time.Duration(float64(size) / float64(l.Rate) * float64(time.Second))
		l.free = at
	}
	at += l.Latency
	if l.Jitter > 0 {
		at += time.Duration(l.rand.Int64N(int64(l.Jitter) + 1))
	}
	if l.Reorder > 0 && l.rand.Float64() < l.Reorder {
		late := l.ReorderBy
		if late == 0 {
			late = max(l.Latency, time.Millisecond)
		}
		at += time.Duration(l.rand.Int64N(int64(late)) + 1)
	} else {
		at = max(at, l.last)
		l.last = at
	}
	if l.Duplicate > 0 && l.rand.Float64() < l.Duplicate {
		n.events.push(at, n.copy(p), l.to)
	}
	n.events.push(at, p, l.to)
}

// copy returns a packet with bytes of its own.
func (n *Network) copy(p *packet) *packet {
	return n.packet(p.src, p.dst, p.ttl, p.buf)
}

func (n *Network) packet(src, dst netip.AddrPort, ttl uint8, b []byte) *packet {
	p := n.pool.Get().(*packet)
	p.src, p.dst, p.ttl = src, dst, ttl
	p.buf = append(p.buf[:0], b...)
	return p
}

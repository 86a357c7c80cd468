package vnet

import (
	"net"
	"net/netip"
	"sync"

	"github.com/warren-dht/warren/udp"
)

// receiveBuffer is how many bytes wait in a socket at most, each datagram
// counting packetOverhead more than its payload, as in a kernel.
const (
	receiveBuffer  = 4 << 20
	packetOverhead = 512
)

// defaultTTL is the hop limit of a datagram that asks for none.
const defaultTTL = 64

// maxPayload is the largest UDP payload over IPv4.
const maxPayload = 65507

// A conn is a bound socket of a host. It implements [udp.Conn].
type conn struct {
	host  *Host
	local netip.AddrPort

	mu     sync.Mutex // after the network's mutex
	ready  sync.Cond  // queue is not empty, or closed
	queue  []*packet  // from head on
	head   int
	bytes  int
	lent   []*packet // whose bytes the reader has
	closed bool
}

func newConn(h *Host, local netip.AddrPort) *conn {
	c := &conn{host: h, local: local}
	c.ready.L = &c.mu
	return c
}

func (c *conn) LocalAddr() netip.AddrPort { return c.local }

func (c *conn) Close() error {
	n := c.host.net
	n.mu.Lock()
	c.host.forget(c)
	n.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, p := range c.queue[c.head:] {
		n.release(p)
	}
	c.queue, c.head, c.bytes = nil, 0, 0
	c.ready.Broadcast()
	return nil
}

// put queues a packet for the reader, if there is room.
func (c *conn) put(p *packet) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := len(p.buf) + packetOverhead
	if c.closed || c.bytes+size > receiveBuffer {
		return false
	}
	if c.head > 0 && len(c.queue) == cap(c.queue) {
		k := copy(c.queue, c.queue[c.head:])
		clear(c.queue[k:])
		c.queue, c.head = c.queue[:k], 0
	}
	c.bytes += size
	c.queue = append(c.queue, p)
	c.ready.Signal()
	return true
}

func (c *conn) ReadBatch(batch []udp.Datagram) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range c.lent {
		c.host.net.release(p)
		c.lent[i] = nil
	}
	c.lent = c.lent[:0]
	if len(batch) == 0 {
		return 0, nil
	}
	for c.head == len(c.queue) && !c.closed {
		c.ready.Wait()
	}
	if c.closed {
		return 0, net.ErrClosed
	}
	n := min(len(batch), len(c.queue)-c.head)
	for i, p := range c.queue[c.head : c.head+n] {
		c.bytes -= len(p.buf) + packetOverhead
		batch[i] = udp.Datagram{Payload: p.buf[:len(p.buf):len(p.buf)], Peer: p.src}
		c.lent = append(c.lent, p)
		c.queue[c.head+i] = nil
	}
	if c.head += n; c.head == len(c.queue) {
		c.queue, c.head = c.queue[:0], 0
	}
	return n, nil
}

func (c *conn) WriteBatch(batch []udp.Datagram) (int, error) {
	n := c.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.host.conns[c.local] != c {
		return 0, net.ErrClosed
	}
	n.advance()
	for i := range batch {
		d := &batch[i]
		n.stats.Sent++
		dst := netip.AddrPortFrom(d.Peer.Addr().Unmap(), d.Peer.Port())
		src, ok := c.host.source(c.local.Addr(), dst.Addr())
		switch {
		case !ok || dst.Port() == 0:
			n.stats.NoRoute++
			continue
		case len(d.Payload) > maxPayload:
			n.stats.TooBig++
			continue
		}
		ttl := d.TTL
		if ttl == 0 {
			ttl = defaultTTL
		}
		c.host.send(n.packet(netip.AddrPortFrom(src, c.local.Port()), dst, ttl, d.Payload))
	}
	n.advance()
	return len(batch), nil
}

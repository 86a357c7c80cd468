package vnet

import "time"

// A packet is a UDP datagram with its addresses. It belongs to one place at a
// time: an event, or a socket's queue, or the reader of that socket.
type packet struct {
	src, dst addrPort
	ttl      uint8
	buf      []byte
}

// size is the length of the IP packet, in bytes.
func (p *packet) size() int {
	if p.dst.Addr().Is4() {
		return 28 + len(p.buf)
	}
	return 48 + len(p.buf)
}

// A node takes packets that a link delivers. The network's mutex is held.
type node interface{ arrive(*packet) }

// An event is the arrival of a packet at the end of a link.
type event struct {
	at  time.Duration
	seq uint64 // breaks ties in the order of sending
	p   *packet
	to  node
}

// heap is a binary heap of events, the earliest first.
type heap struct {
	list []event
	seq  uint64
}

func (a *event) before(b *event) bool {
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

func (h *heap) push(at time.Duration, p *packet, to node) {
	h.seq++
	e := event{at, h.seq, p, to}
	h.list = append(h.list, e)
	i := len(h.list) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !e.before(&h.list[up]) {
			break
		}
		h.list[i] = h.list[up]
		i = up
	}
	h.list[i] = e
}

func (h *heap) pop() event {
	top := h.list[0]
	n := len(h.list) - 1
	e := h.list[n]
	h.list[n] = event{}
	h.list = h.list[:n]
	if n == 0 {
		return top
	}
	i := 0
	for {
		c := 2*i + 1
		if c >= n {
			break
		}
		if c+1 < n && h.list[c+1].before(&h.list[c]) {
			c++
		}
		if !h.list[c].before(&e) {
			break
		}
		h.list[i] = h.list[c]
		i = c
	}
	h.list[i] = e
	return top
}

// advance carries out what is due and sets the timer for what is not. The
// network's mutex is held.
func (n *Network) advance() {
	now := time.Since(n.base)
	for len(n.events.list) > 0 && n.events.list[0].at <= now {
		e := n.events.pop()
		n.now = e.at
		e.to.arrive(e.p)
	}
	n.now = now
	if len(n.events.list) == 0 || n.closed {
		return
	}
	next := n.events.list[0].at
	if n.armed != 0 && n.armed <= next {
		return
	}
	n.armed = next
	if n.timer == nil {
		n.timer = time.AfterFunc(next-now, n.fire)
	} else {
		n.timer.Reset(next - now)
	}
}

func (n *Network) fire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.armed = 0
	if !n.closed {
		n.advance()
	}
}

// drop ends a packet's life and counts it.
func (n *Network) drop(p *packet, why *uint64) {
	*why++
	n.release(p)
}

// release gives a packet's buffer back. Its bytes are spoiled first, so that
// code that keeps a borrowed payload for too long fails its tests.
func (n *Network) release(p *packet) {
	for i := range p.buf {
		p.buf[i] = 0xdb
	}
	n.pool.Put(p)
}

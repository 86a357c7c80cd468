package dhtrpc

import (
	"net/netip"
	"sync"

	"github.com/warren-dht/warren/udp"
)

// An output collects the datagrams of one step of the core, to be sent when
// the node's lock is released. Owned by whoever steps.
type output struct {
	buf   []byte // payloads, one after the other
	items []outItem
	batch []udp.Datagram
}

type outItem struct {
	conn       udp.Conn
	peer       netip.AddrPort
	ttl        uint8
	start, end int // in buf
}

var outputs = sync.Pool{New: func() any { return new(output) }}

// add takes what was appended to buf since start as a datagram.
func (o *output) add(conn udp.Conn, peer netip.AddrPort, ttl uint8, start int) {
	o.items = append(o.items, outItem{conn, peer, ttl, start, len(o.buf)})
}

// flush sends all datagrams, as many of a socket at once as stand together,
// and gives the output back. Errors are a closed socket's; a reader sees that.
func (o *output) flush() {
	for i := 0; i < len(o.items); {
		conn := o.items[i].conn
		o.batch = o.batch[:0]
		for ; i < len(o.items) && o.items[i].conn == conn; i++ {
			it := &o.items[i]
			o.batch = append(o.batch, udp.Datagram{Payload: o.buf[it.start:it.end], Peer: it.peer, TTL: it.ttl})
		}
		conn.WriteBatch(o.batch)
	}
	clear(o.items)
	clear(o.batch)
	o.items, o.buf = o.items[:0], o.buf[:0]
	if cap(o.buf) <= 64<<10 {
		outputs.Put(o)
	}
}

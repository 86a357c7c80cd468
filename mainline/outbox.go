package mainline

import (
	"net/netip"
	"sync"

	"github.com/warren-dht/warren/udp"
)

// An outbox collects the datagrams of one step, for one write. It is borrowed
// from a pool for as long as a step takes, so that a socket that waits holds no
// buffer. Owned by the goroutine that borrowed it.
type outbox struct {
	buf  []byte
	list []udp.Datagram
}

var outboxes = sync.Pool{New: func() any { return new(outbox) }}

func borrowOutbox() *outbox { return outboxes.Get().(*outbox) }

// add queues what was appended to buf, from start on.
func (o *outbox) add(buf []byte, start int, to netip.AddrPort) {
	o.buf = buf
	o.list = append(o.list, udp.Datagram{Payload: buf[start:len(buf):len(buf)], Peer: to})
}

// flush sends everything in one write. A socket that is closed loses it.
func (o *outbox) flush(conn udp.Conn) {
	if len(o.list) > 0 {
		conn.WriteBatch(o.list)
	}
	clear(o.list)
	o.buf, o.list = o.buf[:0], o.list[:0]
}

// release sends everything and gives the outbox back.
func (o *outbox) release(conn udp.Conn) {
	o.flush(conn)
	outboxes.Put(o)
}

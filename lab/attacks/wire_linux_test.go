package attacks

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"

	"github.com/warren-dht/warren/udp"
)

// A wire is the network of a host as an observer on its path has it: the observer
// sees every datagram, and can drop it.
type wire struct {
	udp.Network
	// out and in see the datagrams that leave and arrive. They return false to
	// drop one. nil passes everything. The payload is borrowed.
	out, in func(c udp.Conn, d udp.Datagram) bool
}

func newWire() *wire { return &wire{Network: udp.Default} }

// Listen implements [udp.Network].
func (w *wire) Listen(at netip.AddrPort) (udp.Conn, error) {
	c, err := w.Network.Listen(at)
	if err != nil {
		return nil, err
	}
	return &wireConn{c, w}, nil
}

type wireConn struct {
	udp.Conn
	w *wire
}

// WriteBatch implements [udp.Conn]. A dropped datagram counts as sent and lost.
func (c *wireConn) WriteBatch(batch []udp.Datagram) (int, error) {
	if c.w.out == nil {
		return c.Conn.WriteBatch(batch)
	}
	pass := make([]udp.Datagram, 0, len(batch))
	for _, d := range batch {
		if c.w.out(c.Conn, d) {
			pass = append(pass, d)
		}
	}
	if len(pass) > 0 {
		if n, err := c.Conn.WriteBatch(pass); err != nil || n < len(pass) {
			return 0, err // they may be sent twice, as on any network
		}
	}
	return len(batch), nil
}

// ReadBatch implements [udp.Conn].
func (c *wireConn) ReadBatch(batch []udp.Datagram) (int, error) {
	for {
		n, err := c.Conn.ReadBatch(batch)
		if err != nil || c.w.in == nil {
			return n, err
		}
		pass := 0
		for i := range batch[:n] {
			if c.w.in(c.Conn, batch[i]) {
				batch[pass], batch[i] = batch[i], batch[pass]
				pass++
			}
		}
		if pass > 0 {
			return pass, nil
		}
	}
}

// A flow is one direction of a UDX stream as the observer knows it.
type flow struct {
	id        uint32 // the stream id of the receiver
	next      uint32 // the sequence number that the sender uses next
	ack       uint32 // the sequence number that the sender expects next
	from      udp.Conn
	to        netip.AddrPort
	packets   [][]byte // the last ones
	datagrams [][]byte // payloads of unordered messages
}

// An observer keeps the flows that it sees. Safe for concurrent use.
type observer struct {
	mu    sync.Mutex
	flows map[uint32]*flow
	order []uint32 // ids in the order of their first packet
}

// see notes a UDX packet; other datagrams it ignores.
func (o *observer) see(c udp.Conn, d udp.Datagram) {
	p, ok := parse(d.Payload)
	if !ok {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.flows == nil {
		o.flows = map[uint32]*flow{}
	}
	f := o.flows[p.id]
	if f == nil {
		f = &flow{id: p.id, next: p.seq, ack: p.ack}
		o.flows[p.id] = f
		o.order = append(o.order, p.id)
	}
	f.from, f.to = c, d.Peer
	if p.flags&(isData|isEnd) != 0 && int32(p.seq+1-f.next) > 0 {
		f.next = p.seq + 1
	}
	if int32(p.ack-f.ack) > 0 {
		f.ack = p.ack
	}
	if p.flags&isMessage != 0 {
		f.datagrams = append(f.datagrams, slices.Clone(p.payload))
	}
	if f.packets = append(f.packets, slices.Clone(d.Payload)); len(f.packets) > 16 {
		f.packets = f.packets[1:]
	}
}

// all returns copies of the flows in the order in which they began.
func (o *observer) all() (flows []flow) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range o.order {
		flows = append(flows, *o.flows[id])
	}
	return flows
}

// last is the flow that began last; the zero flow if there is none.
func (o *observer) last() (f flow) {
	if all := o.all(); len(all) > 0 {
		f = all[len(all)-1]
	}
	return f
}

// Flags of a UDX packet (docs/spec/udx.md §1.2).
const (
	isData      = 1
	isEnd       = 2
	isMessage   = 8
	isDestroy   = 16
	isHeartbeat = 32
)

// A packet is a UDX packet. Its payload is borrowed when parsed.
type packet struct {
	flags        byte
	id, seq, ack uint32
	payload      []byte
}

const packetHeader = 20

func parse(b []byte) (p packet, ok bool) {
	if len(b) < packetHeader || b[0] != 0xff || b[1] != 1 || packetHeader+int(b[3]) > len(b) {
		return p, false
	}
	return packet{
		flags:   b[2],
		id:      binary.LittleEndian.Uint32(b[4:]),
		seq:     binary.LittleEndian.Uint32(b[12:]),
		ack:     binary.LittleEndian.Uint32(b[16:]),
		payload: b[packetHeader+int(b[3]):],
	}, true
}

// bytes is the datagram. It offers a large window.
func (p packet) bytes() []byte {
	b := make([]byte, packetHeader, packetHeader+len(p.payload))
	b[0], b[1], b[2] = 0xff, 1, p.flags
	binary.LittleEndian.PutUint32(b[4:], p.id)
	binary.LittleEndian.PutUint32(b[8:], 16<<20)
	binary.LittleEndian.PutUint32(b[12:], p.seq)
	binary.LittleEndian.PutUint32(b[16:], p.ack)
	return append(b, p.payload...)
}

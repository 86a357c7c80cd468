package udx

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/warren-dht/warren/udp"
)

// maxTrain is how many datagrams are handed to a socket at once.
const maxTrain = 64

// A batch collects datagrams for one socket. Those made from its arena are its
// own; those that borrow a stream's memory must be written before the stream is
// unlocked. It is used by one goroutine at a time.
type batch struct {
	conn     udp.Conn
	dgs      []udp.Datagram
	arena    []byte // backs acknowledgements and probes
	borrowed bool   // some datagram lies in a stream's memory
	closed   bool   // the socket of the last write was closed

	touched []*Stream // by the datagrams of one HandleBatch
}

// arenaSize has room for a few acknowledgements with all their blocks.
const arenaSize = 8 << 10

var batchPool = sync.Pool{New: func() any {
	return &batch{dgs: make([]udp.Datagram, 0, maxTrain), arena: make([]byte, 0, arenaSize)}
}}

func newBatch() *batch { return batchPool.Get().(*batch) }

// free gives the batch back; it must have been written.
func (b *batch) free() {
	clear(b.touched)
	b.touched = b.touched[:0]
	b.conn = nil
	batchPool.Put(b)
}

// full reports whether there may be no room for one more datagram of any kind.
func (b *batch) full() bool {
	return len(b.dgs) == maxTrain || cap(b.arena)-len(b.arena) < ceilMTU
}

// use makes conn the socket of the datagrams that follow.
func (b *batch) use(conn udp.Conn) {
	if b.conn != conn {
		b.write()
		b.conn = conn
	}
}

// add appends a datagram.
func (b *batch) add(payload []byte, peer netip.AddrPort) {
	b.dgs = append(b.dgs, udp.Datagram{Payload: payload, Peer: peer})
}

// take returns an empty slice of the arena with room for n bytes, n ≤ ceilMTU.
func (b *batch) take(n int) []byte {
	k := len(b.arena)
	b.arena = b.arena[:k+n]
	return b.arena[k : k : k+n]
}

// write sends what was collected. Datagrams that the socket does not take are
// lost, as a network would lose them (docs/spec/udx.md §2.8).
func (b *batch) write() {
	b.closed = false
	if len(b.dgs) > 0 {
		_, err := b.conn.WriteBatch(b.dgs)
		b.closed = errors.Is(err, net.ErrClosed)
		clear(b.dgs)
		b.dgs = b.dgs[:0]
	}
	b.arena = b.arena[:0]
	b.borrowed = false
}

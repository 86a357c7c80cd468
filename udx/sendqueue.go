package udx

import (
	"math"
	"math/bits"
	"sync"

	"github.com/warren-dht/warren/internal/seq"
)

// A sendQueue holds what was written until it is acknowledged, cut into packets:
//
//	   SND.UNA            SND.NXT                 end
//	------|------------------|---------------------|------
//	 gone | in flight, lost, | unsent; the last    |
//	      | or acknowledged  | one may still grow  |
//
// A number stands for a fixed payload from its first transmission on (§1.4).
// Payloads lie in slabs behind room for their headers, so that packets that
// follow each other in number mostly do so in memory as well. Packets in flight
// and lost packets stand in a list each, in the order of transmission and of
// loss. Owned by a core.
type sendQueue struct {
	una, nxt, end seq.Number

	ring   []sentPacket // indexed by number; its length is a power of two
	box    *packetRing  // the pooled memory of ring; nil for a small one
	slab   *slab        // takes the next packets; nil if nothing is held
	flight packetList
	lost   packetList

	flightBytes int // payload in flight
	unsentBytes int
	sacked      int // acknowledged numbers at or above una
}

// packetState says where a packet of the queue stands.
type packetState uint8

const (
	packetUnsent packetState = iota
	packetInFlight
	packetLost
	packetAcked
)

// A sentPacket is the queue's record of a packet.
type sentPacket struct {
	slab       *slab
	off        int32 // of the header in the slab
	size       uint16
	flags      flags
	state      packetState
	sends      uint8 // transmissions so far, saturating
	probe      bool  // the last transmission was padded to probe the path's MTU
	seq        seq.Number
	prev, next seq.Number // neighbours in the list it stands in
	sentAt     instant    // last transmission
	rate       rateState
}

// bytes returns header and payload.
func (p *sentPacket) bytes() []byte {
	return p.slab.b[p.off : int(p.off)+headerSize+int(p.size)]
}

// packetList is a list of packets, linked by their numbers.
type packetList struct {
	head, tail seq.Number
	n          int
}

func newSendQueue(start seq.Number) sendQueue {
	return sendQueue{una: start, nxt: start, end: start}
}

func (q *sendQueue) at(n seq.Number) *sentPacket { return &q.ring[int(n)&(len(q.ring)-1)] }

func (q *sendQueue) pushBack(l *packetList, p *sentPacket) {
	if l.n == 0 {
		l.head = p.seq
	} else {
		q.at(l.tail).next = p.seq
		p.prev = l.tail
	}
	l.tail = p.seq
	l.n++
}

func (q *sendQueue) remove(l *packetList, p *sentPacket) {
	if l.n--; l.n > 0 {
		switch p.seq {
		case l.head:
			l.head = p.next
		case l.tail:
			l.tail = p.prev
		default:
			q.at(p.prev).next = p.next
			q.at(p.next).prev = p.prev
		}
	}
}

// unsent returns how many packets have never been sent.
func (q *sendQueue) unsent() int { return q.end.Sub(q.nxt) }

// empty reports whether everything was acknowledged.
func (q *sendQueue) empty() bool { return q.una == q.end }

const (
	smallRing = 8  // what an idle stream may keep
	minRing   = 64 // the smallest pooled one
	maxRing   = 16 // how many sizes are pooled
)

// A packetRing is pooled memory for a sendQueue's ring.
type packetRing struct{ p []sentPacket }

var ringPools [maxRing]sync.Pool // of *packetRing, of minRing<<i packets

// grow makes room for n more packets.
func (q *sendQueue) grow(n int) {
	n += q.end.Sub(q.una)
	if n <= len(q.ring) {
		return
	}
	var ring []sentPacket
	var box *packetRing
	if n <= smallRing {
		ring = make([]sentPacket, smallRing)
	} else {
		size := 1 << bits.Len(uint(max(n, minRing)-1))
		i := bits.Len(uint(size/minRing)) - 1
		if i < maxRing {
			box, _ = ringPools[i].Get().(*packetRing)
		}
		if box == nil {
			box = &packetRing{make([]sentPacket, size)}
		}
		ring = box.p
	}
	for n := q.una; n != q.end; n++ {
		p := q.at(n)
		ring[int(n)&(len(ring)-1)] = *p
		p.slab = nil
	}
	q.freeRing()
	q.ring, q.box = ring, box
}

// freeRing gives the ring back to its pool. No packet of it holds a slab.
func (q *sendQueue) freeRing() {
	if q.box != nil {
		if i := bits.Len(uint(len(q.ring)/minRing)) - 1; i < maxRing {
			ringPools[i].Put(q.box)
		}
		q.ring, q.box = nil, nil
	}
}

// open appends an empty packet with room for mss bytes of payload; more is how
// many bytes are about to come.
func (q *sendQueue) open(mss, more int) *sentPacket {
	q.grow(1)
	if q.slab != nil && len(q.slab.b)-q.slab.w < headerSize+mss {
		q.closeSlab()
	}
	if q.slab == nil {
		q.slab = newSendSlab(more)
	}
	p := q.at(q.end)
	*p = sentPacket{slab: q.slab, off: int32(q.slab.w), seq: q.end}
	q.slab.w += headerSize
	q.slab.refs++
	q.end++
	return p
}

// newSendSlab borrows a slab for n bytes and a few more.
func newSendSlab(n int) *slab {
	if 2*n > smallSlab {
		return newSlab(largeSlab)
	}
	return newSlab(smallSlab)
}

// closeSlab lets go of the slab that takes packets.
func (q *sendQueue) closeSlab() {
	if q.slab != nil && q.slab.refs == 0 {
		q.slab.free()
	}
	q.slab = nil
}

// write cuts p into packets of at most mss bytes; a last packet that is not full
// and not sent yet grows first.
func (q *sendQueue) write(p []byte, mss int) {
	q.unsentBytes += len(p)
	q.grow(len(p)/mss + 1)
	for len(p) > 0 {
		var last *sentPacket
		if q.end != q.nxt {
			last = q.at(q.end - 1)
		}
		if last == nil || int(last.size) >= mss || last.slab != q.slab || len(q.slab.b) == q.slab.w || last.flags&flagData == 0 {
			last = q.open(mss, len(p))
			last.flags = flagData
		}
		n := copy(q.slab.b[q.slab.w:], p[:min(len(p), mss-int(last.size))])
		q.slab.w += n
		last.size += uint16(n)
		p = p[n:]
	}
}

// finish queues the END: on the last packet, if that was not sent yet.
func (q *sendQueue) finish() {
	if q.end != q.nxt {
		q.at(q.end - 1).flags |= flagEnd
		return
	}
	q.open(0, 0).flags = flagEnd
}

// recut cuts the unsent packets anew for a smaller mss.
func (q *sendQueue) recut(mss int) {
	fits := true
	for n := q.nxt; n != q.end; n++ {
		fits = fits && int(q.at(n).size) <= mss
	}
	if fits {
		return
	}
	var data []byte
	var end flags
	for n := q.nxt; n != q.end; n++ {
		p := q.at(n)
		data = append(data, p.bytes()[headerSize:]...)
		end |= p.flags & flagEnd
		q.release(p)
	}
	q.end = q.nxt
	q.unsentBytes = 0
	q.write(data, mss)
	if end != 0 {
		q.finish()
	}
}

// sent moves a packet into the flight. It must be the next new one, or lost, or
// in flight (a probe sends it again).
func (q *sendQueue) sent(now instant, p *sentPacket) {
	switch p.state {
	case packetUnsent:
		q.nxt++
		q.unsentBytes -= int(p.size)
		q.flightBytes += int(p.size)
	case packetLost:
		q.remove(&q.lost, p)
		q.flightBytes += int(p.size)
	case packetInFlight:
		q.remove(&q.flight, p)
	}
	p.state = packetInFlight
	p.sentAt = now
	if p.sends < math.MaxUint8 {
		p.sends++
	}
	q.pushBack(&q.flight, p)
}

// lose moves a packet from the flight to the lost ones.
func (q *sendQueue) lose(p *sentPacket) {
	q.remove(&q.flight, p)
	q.flightBytes -= int(p.size)
	p.state = packetLost
	q.pushBack(&q.lost, p)
}

// acked marks a packet as delivered and frees its bytes: a receiver never
// forgets what it has acknowledged (§3.6). It reports whether that was new.
func (q *sendQueue) acked(p *sentPacket) bool {
	switch p.state {
	case packetInFlight:
		q.remove(&q.flight, p)
		q.flightBytes -= int(p.size)
	case packetLost:
		q.remove(&q.lost, p)
	default:
		return false
	}
	p.state = packetAcked
	q.sacked++
	q.release(p)
	return true
}

// release drops the packet's bytes.
func (q *sendQueue) release(p *sentPacket) {
	s := p.slab
	p.slab = nil
	if s.refs--; s.refs == 0 {
		if s != q.slab {
			s.free()
		} else {
			s.w = 0
		}
	}
}

// advance moves una forward; all packets before it must be acknowledged. A
// queue that has become empty holds no memory worth mentioning.
func (q *sendQueue) advance(una seq.Number) {
	q.sacked -= una.Sub(q.una)
	q.una = una
	if q.empty() {
		q.closeSlab()
		q.freeRing()
	}
}

// clear drops everything.
func (q *sendQueue) clear() {
	for n := q.una; n != q.end; n++ {
		if p := q.at(n); p.slab != nil {
			q.release(p)
		}
	}
	q.closeSlab()
	q.freeRing()
	*q = newSendQueue(q.nxt)
}

package udx

import (
	"slices"
	"time"

	"github.com/warren-dht/warren/internal/seq"
)

const (
	// maxAckDelay is how long the acknowledgement of a lone small packet may
	// wait for data to ride on (docs/spec/udx.md §6).
	maxAckDelay = time.Millisecond
	// fullPacket is the smallest window ever advertised but 0: older peers take
	// less than a packet of theirs for a closed one.
	fullPacket = 1452
	// initialWindow is the receive window of a new stream, in bytes.
	initialWindow = 128 << 10
	// pushRoom is how much is taken above the window: old peers push a packet into
	// a closed one to see whether it has opened (docs/spec/udx.md §10, 6).
	pushRoom = 16 << 10
	// gapTime is how long a gap may stay open while nothing before it comes. A
	// sender that cannot fill it gives up after 13 s (docs/spec/udx.md §3.7).
	gapTime = 30 * time.Second
	// DefaultMaxWindow is the receive window that a stream may grow to, in
	// bytes: what the reference always advertises.
	DefaultMaxWindow = 4 << 20
)

// A receiver is the receiving half of a stream. Owned by a core.
//
//	          RCV.NXT
//	-------------|---------|======|----|===|------
//	 in the queue| missing | out of order  |
type receiver struct {
	next   seq.Number // RCV.NXT
	queue  byteQueue  // in order, unread
	ooo    reassembly
	mem    *memory
	gapAt  instant                 // when the gap before ooo opened, or was last narrowed; 0: there is none
	fresh  [freshBlocks]seq.Number // came out of order since the last acknowledgement
	nfresh int                     // how many did

	ended bool // everything up to the END has come

	// discard drops data instead of queueing it: nobody will read.
	discard bool

	// Flow control: limit is the most that is kept for the reader; it doubles
	// each time the reader has taken as much, quickly, up to max.
	limit, max int
	advertised int // window in the last packet sent, less what came since
	taken      int // read since the limit last grew
	takenSince instant

	ackState
}

// ackState says when an acknowledgement is owed.
type ackState struct {
	unacked int     // packets in order since the last one
	ackNow  bool    // at the end of the batch
	ackAt   instant // at the latest; 0: none owed so
}

// bound is the most that is kept now: the limit, or less as the memory of all
// streams is used up, down to a share.
func (r *receiver) bound(used int) int {
	return min(r.limit, max(share, used+r.mem.left()/4))
}

// window is the receive window to advertise: what is free, never a sliver.
func (r *receiver) window() int {
	used := r.queue.size + r.ooo.charge()
	free := r.bound(used) - used
	if free < fullPacket {
		return 0
	}
	return free
}

// receive takes a packet with DATA or END, and decides when to acknowledge it.
func (r *receiver) receive(now instant, p *packet) {
	data := p.flags&flagData != 0
	switch {
	case p.seq.Less(r.next) || r.ended:
		r.ackNow = true // a duplicate: its acknowledgement was lost
		return
	case p.seq == r.next && data && r.full() && !r.discard:
		r.ackNow = true // pushed into a closed window
		if r.gapAt != 0 {
			r.gapAt = now // the peer does what it can
		}
		return
	}
	if p.flags&flagEnd != 0 {
		r.ackNow = true
	}
	if p.seq != r.next {
		// §7 (b): what is not kept is not acknowledged either.
		if r.ooo.add(r.next, p.seq, p.flags, p.payload, r.limit+r.limit/4-r.queue.size) {
			r.fresh[r.nfresh%freshBlocks] = p.seq
			r.nfresh++
			if r.gapAt == 0 {
				r.gapAt = now
			}
		}
		r.ackNow = true
		return
	}
	r.next++
	if data {
		r.deliver(p.payload)
	}
	r.unacked++
	r.advertised = max(r.advertised-len(p.payload), 0)
	if r.unacked == 1 && len(p.payload) < fullPacket-320 && !r.ackNow {
		// 320: a packet of the smallest path is full as well.
		r.ackAt = now.add(maxAckDelay)
	} else {
		r.ackNow = true
	}
	r.drain(p.flags)
	if r.gapAt != 0 {
		if r.gapAt = 0; len(r.ooo.early) > 0 {
			r.gapAt = now
		}
	}
}

// full reports whether there is no room for the next packet: its sender ignores
// the window, or the memory of all streams is used up and this one has more than
// its share unread.
func (r *receiver) full() bool {
	n := r.queue.size
	return n >= r.limit+pushRoom || n >= share && r.mem.left() <= 0
}

// gapEnd is when a gap has been open for too long: what is behind it must not be
// dropped, and is not kept for ever. 0 is never.
func (r *receiver) gapEnd() instant {
	if r.gapAt == 0 {
		return 0
	}
	return r.gapAt.add(gapTime)
}

// drain delivers what follows the packet that came, whose flags are given.
func (r *receiver) drain(fl flags) {
	for {
		if fl&flagEnd != 0 {
			r.ended = true
			r.ooo.clear()
			return
		}
		e := r.ooo.head(r.next)
		if e == nil {
			return
		}
		r.next++
		r.ackNow = true // a hole was filled
		fl = e.flags
		if fl&flagData != 0 {
			a, b := e.payload()
			r.deliver(a)
			r.deliver(b)
		}
		r.ooo.pop()
	}
}

func (r *receiver) deliver(b []byte) {
	if !r.discard && len(b) > 0 {
		r.queue.write(b)
	}
}

// read moves bytes to the reader. It reports whether the peer should be told of
// the window that opened.
func (r *receiver) read(p []byte, now func() instant, rtt time.Duration) (n int, update bool) {
	n = r.queue.read(p)
	if r.takenSince == 0 {
		r.takenSince = now()
	}
	if r.taken += n; r.taken >= r.growAt() && r.limit < r.max {
		r.grow(now(), rtt)
	}
	w := r.window()
	bound := r.bound(r.queue.size + r.ooo.charge())
	return n, r.advertised < bound/2 && w-r.advertised >= max(bound/4, fullPacket)
}

// earlyWindow is the window that a reader gets quickly, in bytes.
const earlyWindow = 512 << 10

// growAt is how much a reader must have taken for a wider window: a whole one, or
// a quarter of a small one, so that a sender that doubles its rate each round trip
// is not kept waiting.
func (r *receiver) growAt() int {
	if r.limit < earlyWindow {
		return r.limit / 4
	}
	return r.limit
}

// grow widens the window for a reader that keeps up with a path that fills it:
// one that took what growAt says within four round trips, as far as they are known.
// It does not while all streams together keep so much that there is no room for it.
func (r *receiver) grow(now instant, rtt time.Duration) {
	quick := 4 * max(rtt, maxAckDelay)
	if (rtt == 0 || now.sub(r.takenSince) <= quick) && r.mem.left()/4 >= 2*r.limit {
		r.limit = min(2*r.limit, r.max)
	}
	r.taken, r.takenSince = 0, now
}

// freshBlocks and topBlocks are how many of the blocks of an acknowledgement
// that has no room for all are those of the latest arrivals, and the highest.
const (
	freshBlocks = 16
	topBlocks   = 8
)

// blocks calls f for the ranges that an acknowledgement reports, ascending. If
// there are more than maxSACKBlocks, those of packets that have just come and
// the highest are among them, so that the peer learns of everything once; the
// others are the lowest. (The reference reports the lowest alone, and its peer
// takes the rest for lost.)
func (r *receiver) blocks(f func(seq.Range)) {
	have := r.ooo.have
	if len(have) <= maxSACKBlocks {
		for _, b := range have {
			f(b)
		}
		return
	}
	var picked [maxSACKBlocks]int
	list := picked[:0]
	add := func(i int) {
		if len(list) < maxSACKBlocks && !slices.Contains(list, i) {
			list = append(list, i)
		}
	}
	for _, n := range r.fresh[:min(r.nfresh, freshBlocks)] {
		if i := have.Find(n); i >= 0 {
			add(i)
		}
	}
	for i := range topBlocks {
		add(len(have) - 1 - i)
	}
	for i := 0; len(list) < maxSACKBlocks; i++ {
		add(i)
	}
	slices.Sort(list)
	for _, i := range list {
		f(have[i])
	}
}

// owes reports whether an acknowledgement is due.
func (r *receiver) owes(now instant) bool { return r.ackNow || r.ackAt.reached(now) }

// acked notes that a packet with the present state went out.
func (r *receiver) acked(window int) {
	r.ackState, r.nfresh = ackState{}, 0
	r.advertised = window
}

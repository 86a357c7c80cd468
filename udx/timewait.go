package udx

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/warren-dht/warren/udp"
)

const (
	// timeWaitTime is how long a stream's last acknowledgement is repeated
	// (docs/spec/udx.md §2.11).
	timeWaitTime = 5 * time.Second
	// maxTimeWaits bounds how many streams are remembered; the oldest goes.
	maxTimeWaits = 4096
)

// A timeWait is what remains of a stream that ended in order: its last
// acknowledgement, repeated for a peer that did not get it.
type timeWait struct {
	id       uint32
	final    [headerSize]byte
	route    route
	expires  instant
	answered atomic.Int64 // instant of the batch that was answered last
}

// timeWaits are the streams in TIME-WAIT. The zero value is empty. Guarded by
// the Mux's lock.
type timeWaits struct {
	byID  map[uint32]*timeWait
	queue []*timeWait // by expiry; may hold some that byID no longer has
}

func (t *timeWaits) get(id uint32) *timeWait { return t.byID[id] }

func (t *timeWaits) remove(id uint32) { delete(t.byID, id) }

func (t *timeWaits) add(now instant, w *timeWait) {
	if t.byID == nil {
		t.byID = make(map[uint32]*timeWait)
	}
	if len(t.queue) >= maxTimeWaits {
		t.shift()
	}
	w.expires = now.add(timeWaitTime)
	t.byID[w.id] = w
	t.queue = append(t.queue, w)
}

func (t *timeWaits) shift() {
	if w := t.queue[0]; t.byID[w.id] == w {
		delete(t.byID, w.id)
	}
	t.queue[0] = nil
	t.queue = t.queue[1:]
}

// expire drops what has waited long enough and returns when the next will have.
func (t *timeWaits) expire(now instant) instant {
	for len(t.queue) > 0 {
		if at := t.queue[0].expires; at > now {
			return at
		}
		t.shift()
	}
	*t = timeWaits{}
	return 0
}

// answerPast repeats the last acknowledgement for a packet that wants one, once
// for each batch.
func answerPast(now instant, w *timeWait, d udp.Datagram, b *batch) {
	// A bare acknowledgement wants no answer: two ends in TIME-WAIT would go on
	// forever.
	if flags(d.Payload[offFlags])&(flagData|flagEnd|flagHeartbeat) == 0 || d.Peer != w.route.remote {
		return
	}
	if w.answered.Swap(int64(now)) == int64(now) {
		return
	}
	b.use(w.route.conn)
	if b.full() {
		b.write()
	}
	b.add(append(b.take(headerSize), w.final[:]...), w.route.remote)
}

// A route is where a stream's packets go. An immutable value.
type route struct {
	conn     udp.Conn
	remoteID uint32
	remote   netip.AddrPort
}

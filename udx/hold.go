package udx

import (
	"slices"
	"sync"

	"github.com/warren-dht/warren/udp"
)

const (
	// maxHeld bounds the packets that are held for one relayed stream: what a
	// peer says first, before the other one was heard.
	maxHeld = 4
	// maxHeldSize bounds a held packet, in bytes: honest ones fit.
	maxHeldSize = ceilMTU
	// maxAllHeld bounds the bytes that are held for all streams.
	maxAllHeld = 1 << 20
)

// A waitingRoom holds the packets that were relayed to streams which are not
// connected yet. Its lock is taken last, and nothing is called under it.
type waitingRoom struct {
	mu   sync.Mutex
	held map[*Stream][][]byte
	size int // in bytes
}

// hold keeps a copy of a packet for target, if there is room, unless that has
// been connected meanwhile: then it returns its route, and the packet can be sent.
func (m *Mux) hold(target *Stream, p []byte) *route {
	w := &m.waiting
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := target.route.Load(); r != nil {
		return r
	}
	select {
	case <-target.done:
		return nil // or what is put here now would never be dropped
	default:
	}
	if len(p) > maxHeldSize || w.size+len(p) > maxAllHeld || len(w.held[target]) >= maxHeld {
		return nil
	}
	if w.held == nil {
		w.held = make(map[*Stream][][]byte)
	}
	w.held[target] = append(w.held[target], slices.Clone(p))
	w.size += len(p)
	return nil
}

// letGo sends what was held for a stream that has just been connected.
func (m *Mux) letGo(s *Stream) {
	list := m.drop(s)
	r := s.route.Load()
	for _, p := range list {
		setStreamID(p, r.remoteID)
		r.conn.WriteBatch([]udp.Datagram{{Payload: p, Peer: r.remote}})
	}
}

// drop forgets what was held for a stream.
func (m *Mux) drop(s *Stream) [][]byte {
	w := &m.waiting
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.held[s]
	delete(w.held, s)
	for _, p := range list {
		w.size -= len(p)
	}
	return list
}

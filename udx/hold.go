package udx

import (
	"slices"
	"sync"

	"github.com/warren-dht/warren/udp"
)

// maxHeld bounds the packets that are held for one relayed stream: what a peer
// says first, before the other one was heard.
const maxHeld = 4

// A waitingRoom holds the packets that were relayed to streams which are not
// connected yet. Its lock is taken last, and nothing is called under it.
type waitingRoom struct {
	mu   sync.Mutex
	held map[*Stream][][]byte
}

// hold keeps a copy of a packet for target, unless that has been connected
// meanwhile: then it returns its route, and the packet can be sent.
func (m *Mux) hold(target *Stream, p []byte) *route {
	w := &m.waiting
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := target.route.Load(); r != nil {
		return r
	}
	if w.held == nil {
		w.held = make(map[*Stream][][]byte)
	}
	if list := w.held[target]; len(list) < maxHeld {
		w.held[target] = append(list, slices.Clone(p))
	}
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
	return list
}

package udx

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"io"
	"slices"
	"sync"

	"github.com/warren-dht/warren/udp"
)

// A Config configures a Mux. The zero value is ready for use.
type Config struct {
	// MaxWindow is the receive window that a stream may grow to, in bytes; it
	// bounds what a stream keeps for a reader that does not read. 0 is
	// DefaultMaxWindow. A new stream has at most 128 KiB.
	MaxWindow int
	// MaxMemory is how much all streams together keep of what was received and
	// not read, in bytes. When it is used up, a stream still keeps 128 KiB for its
	// reader and as much behind a gap; packets beyond that are dropped, and the
	// peer sends them again. Default: 64 MiB.
	MaxMemory int
	// Rand is where stream ids come from; nil is crypto/rand. Whoever guesses
	// a stream's id and path can forge its packets.
	Rand io.Reader
}

// A Mux is the streams of a node: all that share one space of stream ids. It
// serves any number of sockets, as a [udp.Handler] of each. It is safe for
// concurrent use. It has one goroutine, its timer loop, until Close.
//
// Lock order: Mux.mu, Stream.mu, schedule.mu. No user function is called, and
// nothing waits, with any of them held.
type Mux struct {
	config Config
	clock  clock
	timers schedule

	mu      sync.RWMutex
	streams map[uint32]*Stream
	relayed map[*Stream][]*Stream // target: the streams that are relayed to it
	past    timeWaits
	closed  bool

	loop sync.WaitGroup
	ends sync.WaitGroup // OnEnd hooks

	waiting waitingRoom
	memory  memory
}

// NewMux returns a Mux without streams. Close it when done.
func NewMux(config Config) *Mux {
	if config.MaxWindow <= 0 {
		config.MaxWindow = DefaultMaxWindow
	}
	if config.MaxMemory <= 0 {
		config.MaxMemory = DefaultMaxMemory
	}
	if config.Rand == nil {
		config.Rand = crand.Reader
	}
	m := &Mux{
		config:  config,
		clock:   newClock(),
		streams: make(map[uint32]*Stream),
		relayed: make(map[*Stream][]*Stream),
	}
	m.memory.max = int64(config.MaxMemory)
	m.timers.init(m.clock)
	m.loop.Go(m.run)
	return m
}

// Memory returns how many bytes all streams together keep of what was received
// and not read: see Config.MaxMemory.
func (m *Mux) Memory() int { return int(m.memory.used.Load()) }

// NewStream creates a stream. It exists at once: packets for its id are taken as
// soon as its Accept hook allows them. No packet is sent before Connect.
func (m *Mux) NewStream(config StreamConfig) (*Stream, error) {
	for {
		id := config.ID
		for id == 0 {
			var b [4]byte
			if _, err := io.ReadFull(m.config.Rand, b[:]); err != nil {
				return nil, err
			}
			id = binary.LittleEndian.Uint32(b[:])
		}
		s, err := m.add(id, config)
		if err != ErrIDInUse || config.ID != 0 {
			return s, err
		}
	}
}

// add creates a stream with the given id. One in TIME-WAIT gives way only to a
// caller who asked for its id.
func (m *Mux) add(id uint32, config StreamConfig) (*Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return nil, ErrMuxClosed
	case m.streams[id] != nil, config.ID == 0 && m.past.get(id) != nil:
		return nil, ErrIDInUse
	}
	m.past.remove(id)
	s := newStream(m, id, config)
	m.streams[id] = s
	return s, nil
}

// Drain waits until all streams that their user has closed are over, so that what
// was written to them is delivered, or until the context ends. Open streams are
// not waited for.
func (m *Mux) Drain(ctx context.Context) error {
	m.mu.RLock()
	var closing []*Stream
	for _, s := range m.streams {
		closing = append(closing, s)
	}
	m.mu.RUnlock()
	for _, s := range closing {
		s.mu.Lock()
		wait := s.closed
		s.mu.Unlock()
		if !wait {
			continue
		}
		select {
		case <-s.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close destroys all streams, tells their peers, and ends the timer loop. What
// was written and not delivered yet is lost: see Drain. It does not close any
// socket. It returns when all OnEnd hooks have.
func (m *Mux) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.DestroyAll(ErrMuxClosed)
	m.timers.close()
	m.loop.Wait()
	m.ends.Wait()
	return nil
}

// DestroyAll destroys all streams that there are, as [Stream.Destroy] does, and
// forgets those in TIME-WAIT. The Mux stays usable.
func (m *Mux) DestroyAll(err error) {
	m.mu.Lock()
	open := make([]*Stream, 0, len(m.streams))
	for _, s := range m.streams {
		open = append(open, s)
	}
	m.past = timeWaits{}
	m.mu.Unlock()
	for _, s := range open {
		s.Destroy(err)
	}
}

// forget removes a stream that is over, and destroys those that relay to it.
// final is its last acknowledgement if it ended in order.
func (m *Mux) forget(s *Stream, final *timeWait) {
	m.timers.remove(s)
	m.drop(s)
	m.mu.Lock()
	if m.streams[s.id] == s {
		delete(m.streams, s.id)
		if final != nil && !m.closed {
			final.id = s.id
			now := m.clock.now()
			m.past.add(now, final)
			m.timers.remindAt(now, final.expires)
		}
	}
	sources := m.relayed[s]
	delete(m.relayed, s)
	if target := s.relay.Load(); target != nil {
		if list := slices.DeleteFunc(m.relayed[target], func(r *Stream) bool { return r == s }); len(list) > 0 {
			m.relayed[target] = list
		} else {
			delete(m.relayed, target)
		}
	}
	m.mu.Unlock()
	for _, r := range sources {
		r.end(nil)
	}
}

// lookup finds an open stream, or a past one's last word.
func (m *Mux) lookup(id uint32) (*Stream, *timeWait) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if s := m.streams[id]; s != nil {
		return s, nil
	}
	return nil, m.past.get(id)
}

// HandleBatch implements [udp.Handler]: it takes the packets of known streams
// and returns the rest, stray packets of unknown ones among them. Each stream is
// locked once for each run of its packets and once at the end, when losses are
// detected, acknowledgements and data sent, and readers and writers woken.
func (m *Mux) HandleBatch(conn udp.Conn, dgs []udp.Datagram) (rest []udp.Datagram) {
	rest = dgs[:0]
	var (
		b   *batch
		now instant
		s   *Stream // locked
		in  intake
	)
	for i := range dgs {
		d := dgs[i]
		if !looksLikePacket(d.Payload) {
			rest = append(rest, d)
			continue
		}
		if b == nil {
			b, now = newBatch(), m.clock.now()
		}
		if id := packetStreamID(d.Payload); s == nil || s.id != id {
			if s != nil {
				s.mu.Unlock()
				s = nil
			}
			found, past := m.lookup(id)
			if found == nil {
				if past == nil {
					rest = append(rest, d)
				} else {
					answerPast(now, past, d, b)
				}
				continue
			}
			s = found
			s.mu.Lock()
			s.touch(b)
		}
		if s.core.done {
			rest = append(rest, d)
			continue
		}
		s.take(now, conn, d, &in, b)
	}
	if s != nil {
		s.mu.Unlock()
	}
	if b != nil {
		m.settle(now, b)
	}
	return rest
}

// settle ends a batch for the streams that it touched.
func (m *Mux) settle(now instant, b *batch) {
	for _, s := range b.touched {
		s.mu.Lock()
		s.touchedBy = nil
		if !s.core.done {
			s.core.settle(now)
		}
		s.flush(now, b)
		s.unlock()
	}
	b.write()
	b.free()
}

// run is the timer loop: it steps the streams whose deadlines have come.
func (m *Mux) run() {
	for m.timers.wait() {
		now := m.clock.now()
		var b *batch
		for {
			s := m.timers.due(now)
			if s == nil {
				break
			}
			if b == nil {
				b = newBatch()
			}
			s.mu.Lock()
			s.expire(now)
			s.flush(now, b)
			s.unlock()
		}
		if b != nil {
			b.write()
			b.free()
		}
		m.mu.Lock()
		next := m.past.expire(now)
		m.mu.Unlock()
		m.timers.sleep(now, next)
	}
}

package hyperdht

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warren-dht/warren/udp"
)

// maxPunchSockets bounds the sockets that a node has open for punching, over
// all its attempts: one birthday punch takes up to 448. Those that carry a
// connection are not among them; Config.MaxSockets bounds both.
const maxPunchSockets = 480

// lingerTime is how long a socket stays open after the stream that it carried
// has ended, to acknowledge a last END that is sent again.
const lingerTime = 5 * time.Second

// A socketPool opens the extra sockets of a node: one for each punch, more for
// a birthday punch. All of them feed the node's streams and its RPC. Safe for
// concurrent use.
type socketPool struct {
	network udp.Network
	host    netip.Addr
	max     int           // sockets open, those that carry connections included; negative: no limit
	after   []udp.Handler // asked before and after the socket's own handler
	before  []udp.Handler

	mu     sync.Mutex
	closed bool
	open   map[udp.Conn]*punchSocket
	idle   int // of them that no stream retains
	wg     sync.WaitGroup

	added, removed atomic.Uint64
}

// A punchSocket is an extra socket. It belongs to a puncher, which releases it,
// until a stream that it carries retains it; it is closed some time after the
// last such stream has dropped it.
type punchSocket struct {
	udp.Conn
	pool    *socketPool
	punched atomic.Pointer[func(from netip.AddrPort)]

	// Guarded by pool.mu.
	streams int         // that retain it
	timer   *time.Timer // runs while it lingers
}

// acquire opens a socket. Each datagram of at most one byte is given to punched,
// on the socket's reader.
func (p *socketPool) acquire(punched func(s *punchSocket, from netip.AddrPort)) (*punchSocket, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	if p.idle >= maxPunchSockets || p.max >= 0 && len(p.open) >= p.max {
		return nil, errTooManySockets
	}
	conn, err := p.network.Listen(netip.AddrPortFrom(p.host, 0))
	if err != nil {
		return nil, err
	}
	s := &punchSocket{Conn: conn, pool: p}
	if punched != nil {
		f := func(from netip.AddrPort) { punched(s, from) }
		s.punched.Store(&f)
	}
	p.open[conn] = s
	p.idle++
	p.added.Add(1)
	handlers := append(append(append([]udp.Handler{}, p.before...), s), p.after...)
	p.wg.Go(func() { udp.Serve(conn, handlers...) })
	return s, nil
}

// HandleBatch takes the punches: datagrams of no or one byte.
func (s *punchSocket) HandleBatch(_ udp.Conn, batch []udp.Datagram) []udp.Datagram {
	rest := batch[:0]
	for _, d := range batch {
		if len(d.Payload) > 1 {
			rest = append(rest, d)
		} else if f := s.punched.Load(); f != nil {
			(*f)(d.Peer)
		}
	}
	return rest
}

// punch sends one punch; ttl 0 is the default.
func (s *punchSocket) punch(to netip.AddrPort, ttl uint8) {
	s.WriteBatch([]udp.Datagram{{Payload: punchByte[:], Peer: to, TTL: ttl}})
}

var punchByte = [1]byte{0}

// mute stops the socket's interest in punches.
func (s *punchSocket) mute() { s.punched.Store(nil) }

// release closes the socket unless a stream has retained it.
func (s *punchSocket) release() {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.streams == 0 && s.timer == nil {
		p.closeLocked(s)
	}
}

// retain keeps the socket open for a stream. It reports whether the socket was
// still open.
func (s *punchSocket) retain() bool {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[s.Conn] != s {
		return false
	}
	if s.streams++; s.streams == 1 {
		p.idle--
	}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	return true
}

// drop undoes retain; the socket lingers, and may be retained again meanwhile.
func (s *punchSocket) drop() {
	s.mute()
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.streams--; s.streams > 0 || p.open[s.Conn] != s {
		return
	}
	p.idle++
	var t *time.Timer
	t = time.AfterFunc(lingerTime, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if s.timer == t {
			p.closeLocked(s)
		}
	})
	s.timer = t
}

// find returns the extra socket that conn is, nil if it is none.
func (p *socketPool) find(conn udp.Conn) *punchSocket {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open[conn]
}

func (p *socketPool) closeLocked(s *punchSocket) {
	if p.open[s.Conn] != s {
		return
	}
	delete(p.open, s.Conn)
	if s.streams == 0 {
		p.idle--
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mute()
	s.Close()
	p.removed.Add(1)
}

// closeAll closes the sockets that are open.
func (p *socketPool) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.open {
		p.closeLocked(s)
	}
}

// close closes all sockets for good and waits for their readers.
func (p *socketPool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.closeAll()
	p.wg.Wait()
}

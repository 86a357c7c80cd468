package udx

import (
	"io"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warren-dht/warren/internal/seq"
	"github.com/warren-dht/warren/udp"
)

const (
	// maxUnsent is how much written data waits for the window to open before
	// Write blocks, in bytes; at half of it writers are woken.
	maxUnsent = 256 << 10
	// writeTrain is how many packets Write cuts before it sends them.
	writeTrain = 44
	// lingerTime is how long after Close a stream may go without progress, or
	// wait for the peer's END, before it is destroyed.
	lingerTime = 15 * time.Second
)

// A StreamConfig configures a stream.
type StreamConfig struct {
	// ID is the stream's local id, which the peer must be told by other means.
	// 0 draws a random one that is not in use.
	ID uint32
	// Seq is the number of our first packet. The peer must know it.
	Seq uint32
	// Accept, if not nil, is asked about packets that come from a path (a
	// socket of ours and an address) that is neither the stream's present nor
	// its previous one nor was accepted before: before Connect that is every
	// path. The first packet of a path that it accepts is processed like any
	// other, and Accept may call Connect to let it complete the connection. A
	// nil Accept rejects. It is called by the goroutine that reads the socket,
	// without locks, and must not wait; it can be called before NewStream returns.
	// The reference calls it "firewall".
	Accept func(s *Stream, conn udp.Conn, from netip.AddrPort) bool
	// Probe, if not nil, is shown each message (see SendMessage) before Accept is
	// asked about its path, and again before ReadMessage gets it. True takes the
	// message. It may come from any path: probes tell what a path is worth. The
	// payload is borrowed. Probe is called as Accept is.
	Probe func(s *Stream, conn udp.Conn, from netip.AddrPort, payload []byte) bool
	// OnEnd, if not nil, is called once, in a goroutine of its own, when the
	// stream is over. It spares whoever has to tidy up a goroutine that waits
	// for Done.
	OnEnd func()
}

// A Stream is a reliable, ordered stream of bytes in both directions, and of
// unordered messages beside them. It is a [net.Conn], safe for concurrent use.
//
// It has no goroutine: its core lies under the mutex, and whoever changes
// something (the socket's reader once a batch, Write, Read, Close, the timer
// loop of its Mux) steps it and sends what it has to say.
//
// What was received may be read after the peer's END and after an error. Errors
// are *net.OpError around causes that errors.Is knows as net.ErrClosed (closed
// here), syscall.ECONNRESET (destroyed by the peer), syscall.ETIMEDOUT (the peer
// is gone), syscall.EPIPE (written after CloseWrite) or os.ErrDeadlineExceeded.
type Stream struct {
	mux    *Mux
	id     uint32
	accept func(*Stream, udp.Conn, netip.AddrPort) bool
	probe  func(*Stream, udp.Conn, netip.AddrPort, []byte) bool
	onEnd  func() // or nil

	route atomic.Pointer[route]  // nil before Connect; read by relays without the lock
	relay atomic.Pointer[Stream] // where all packets are forwarded; nil: nowhere

	mu        sync.Mutex
	core      core
	paths     paths
	readable  sync.Cond
	writable  sync.Cond
	reading   deadline
	writing   deadline
	busy      bool    // a Write is under way
	closed    bool    // by Close or Destroy
	closedAt  instant // when Close began to linger; 0: it does not
	over      bool    // core.done was acted upon
	messages  *messageQueue
	changed   chan struct{} // closed when the change of the remote is complete
	touchedBy *batch        // the batch whose list of touched streams has this one
	armed     instant       // when the timer loop will look; 0: it will not

	slot int // 1 + index in the schedule; guarded by its lock

	done chan struct{}
}

func newStream(m *Mux, id uint32, config StreamConfig) *Stream {
	s := &Stream{
		mux:    m,
		id:     id,
		accept: config.Accept,
		probe:  config.Probe,
		onEnd:  config.OnEnd,
		core:   newCore(id, seq.Number(config.Seq), 0, m.config.MaxWindow, &m.memory),
		done:   make(chan struct{}),
	}
	s.core.init()
	s.readable.L = &s.mu
	s.writable.L = &s.mu
	return s
}

// ID returns the stream's local id.
func (s *Stream) ID() uint32 { return s.id }

// Done returns a channel that is closed when the stream is over: both directions
// have ended and all is delivered, or an error ended it.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Err returns why the stream is over: nil if it is not, or if it ended in order.
func (s *Stream) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.err
}

// Closed reports whether Close or Destroy was called.
func (s *Stream) Closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// SinceReceived returns how long ago the last packet of the peer came, on
// whatever path; the largest duration if none has come yet.
func (s *Stream) SinceReceived() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.timers.heard == 0 {
		return math.MaxInt64
	}
	return s.mux.clock.now().sub(s.core.timers.heard)
}

// Stats returns the stream's counters and estimates.
func (s *Stream) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.snapshot()
}

// take processes one datagram of a batch; s is locked, and unlocked meanwhile if
// a hook must be asked.
func (s *Stream) take(now instant, conn udp.Conn, d udp.Datagram, in *intake, b *batch) {
	from := path{conn, d.Peer}
	isProbe := s.probe != nil && flags(d.Payload[offFlags])&(flagMessage|flagHeartbeat) == flagMessage
	if !s.paths.known(from) {
		if isProbe && s.probed(from, d) || !s.admit(from, in) {
			return
		}
	}
	if target := s.relay.Load(); target != nil {
		s.forward(now, target, d, b)
		return
	}
	p, err := parsePacket(d.Payload)
	if err != nil {
		s.core.stats.BadPackets++
		return
	}
	s.paths.last = from
	if from == s.paths.current {
		s.core.credit += amplification * len(d.Payload)
	} else {
		p.elsewhere = true
	}
	s.core.input(now, &p)
	if p.flags&(flagMessage|flagHeartbeat) != flagMessage || isProbe && s.probed(from, d) {
		return
	}
	if s.messages.put(p.payload) {
		s.readable.Broadcast()
	}
}

// probed shows a message to the Probe hook; s is locked, but not meanwhile. It
// reports whether there is nothing left to do.
func (s *Stream) probed(from path, d udp.Datagram) bool {
	p, err := parsePacket(d.Payload)
	if err != nil {
		return false
	}
	s.mu.Unlock()
	taken := s.probe(s, from.conn, from.remote, p.payload)
	s.mu.Lock()
	return taken || s.core.done
}

// touch puts s into the batch's list of streams to settle. s is locked.
func (s *Stream) touch(b *batch) {
	if s.touchedBy != b {
		s.touchedBy = b
		b.touched = append(b.touched, s)
	}
}

// flush sends what the core has to say, wakes whom it concerns, and sets the
// timer. s is locked. The batch is written if it borrows the stream's memory;
// otherwise some may remain in it.
func (s *Stream) flush(now instant, b *batch) {
	c := &s.core
	if c.connected && !c.done {
		b.use(s.paths.current.conn)
		for c.output(now, b) {
			s.write(b)
		}
		if b.borrowed {
			s.write(b)
		}
	}
	if c.done || c.rcv.queue.size > 0 || c.rcv.ended {
		s.readable.Broadcast()
	}
	if c.done || c.snd.unsentBytes <= maxUnsent/2 {
		s.writable.Broadcast()
	}
	if s.changed != nil && !c.changing {
		close(s.changed)
		s.changed = nil
	}
	if !c.done {
		s.mux.timers.arm(now, s, s.deadline())
	}
}

// write writes the batch; a closed socket ends the stream.
func (s *Stream) write(b *batch) {
	b.write()
	if b.closed {
		s.core.fail(errSocket)
	}
}

// flushAlone is flush with a batch of its own.
func (s *Stream) flushAlone(now instant) {
	b := newBatch()
	s.flush(now, b)
	b.write()
	b.free()
}

// deadline is when the stream wants to be looked at.
func (s *Stream) deadline() instant {
	at := s.core.deadline()
	at = earliest(at, s.lingerUntil())
	if s.relay.Load() != nil {
		end, _ := s.core.relayEnd()
		at = earliest(at, end)
	}
	return at
}

func (s *Stream) lingerUntil() instant {
	if s.closedAt == 0 {
		return 0
	}
	return max(s.closedAt, s.core.timers.progress).add(lingerTime)
}

// expire does what is due. s is locked.
func (s *Stream) expire(now instant) {
	s.armed = 0
	if s.core.done {
		return
	}
	if s.core.rcv.gapEnd().reached(now) {
		s.abort(errGap)
		return
	}
	s.core.expire(now)
	if s.lingerUntil().reached(now) {
		s.abort(errLinger)
	}
	if s.relay.Load() != nil {
		if end, err := s.core.relayEnd(); end <= now {
			s.core.fail(err)
		}
	}
}

// abort tells the peer and ends the stream. s is locked.
func (s *Stream) abort(err error) {
	c := &s.core
	if c.done {
		return
	}
	if c.connected && s.relay.Load() == nil {
		b := newBatch()
		b.use(s.paths.current.conn)
		c.sendBare(flagDestroy, b)
		b.write()
		b.free()
	}
	c.fail(err)
}

// unlock unlocks s, and if it is over, sees to its end.
func (s *Stream) unlock() {
	c := &s.core
	if !c.done || s.over {
		s.mu.Unlock()
		return
	}
	s.over = true
	var final *timeWait
	if c.err == nil && c.finished && c.rcv.ended {
		h := c.header(0)
		final = &timeWait{route: *s.route.Load()}
		h.put(final.final[:])
	}
	c.release()
	s.reading.stop()
	s.writing.stop()
	s.readable.Broadcast()
	s.writable.Broadcast()
	close(s.done)
	if s.onEnd != nil {
		// Counted before the lock is gone: whoever destroys the stream after
		// this, Mux.Close for one, waits for the hook.
		s.mux.ends.Add(1)
	}
	s.mu.Unlock()
	s.mux.forget(s, final)
	if s.onEnd != nil {
		go func() {
			defer s.mux.ends.Done()
			s.onEnd()
		}()
	}
}

// end ends the stream without a word to the peer.
func (s *Stream) end(err error) {
	s.mu.Lock()
	s.core.fail(err)
	s.unlock()
}

// Read implements [net.Conn]. It returns io.EOF after the peer's END.
func (s *Stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	c := &s.core
	for {
		if err := s.readError(); err != nil {
			return 0, s.fail("read", err)
		}
		if c.rcv.queue.size > 0 && len(p) > 0 {
			break
		}
		switch {
		case c.rcv.ended:
			s.mu.Unlock()
			return 0, io.EOF
		case c.done:
			return 0, s.fail("read", c.cause())
		case len(p) == 0:
			s.mu.Unlock()
			return 0, nil
		}
		s.readable.Wait()
	}
	n, update := c.rcv.read(p, s.mux.clock.now, c.rttEst.smoothed)
	if update && !c.done {
		c.rcv.ackNow = true
		s.flushAlone(s.mux.clock.now())
	}
	s.unlock()
	return n, nil
}

// WaitRead waits until Read would not wait, be it for an error: a reader that is
// idle need not hold a buffer. It obeys the read deadline.
func (s *Stream) WaitRead() error {
	s.mu.Lock()
	c := &s.core
	for c.rcv.queue.size == 0 && !c.rcv.ended && !c.done {
		if err := s.readError(); err != nil {
			return s.fail("read", err)
		}
		s.readable.Wait()
	}
	s.mu.Unlock()
	return nil
}

func (s *Stream) readError() error {
	switch {
	case s.closed:
		return net.ErrClosed
	case s.reading.expired:
		return errDeadline
	}
	return nil
}

// cause is what a reader or writer is told when the stream is over.
func (c *core) cause() error {
	if c.err == nil {
		return net.ErrClosed
	}
	return c.err
}

// fail unlocks s and wraps an error.
func (s *Stream) fail(op string, err error) error {
	s.unlock()
	return &net.OpError{Op: op, Net: "udx", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
}

// Write implements [net.Conn]. It returns when all is queued, which needs room
// in the stream's send buffer, and may be called before Connect. Concurrent
// calls do not mix their bytes.
func (s *Stream) Write(p []byte) (n int, err error) {
	s.mu.Lock()
	for s.busy {
		if err = s.writeError(); err != nil {
			return 0, s.fail("write", err)
		}
		s.writable.Wait()
	}
	s.busy = true
	c := &s.core
	for {
		if err = s.writeError(); err != nil || len(p) == 0 {
			break
		}
		if c.snd.unsentBytes >= maxUnsent {
			s.writable.Wait()
			continue
		}
		mss := c.mss()
		k := min(len(p), writeTrain*mss)
		c.snd.write(p[:k], mss)
		n += k
		p = p[k:]
		s.flushAlone(s.mux.clock.now())
	}
	s.busy = false
	s.writable.Broadcast()
	if err != nil {
		return n, s.fail("write", err)
	}
	s.unlock()
	return n, nil
}

func (s *Stream) writeError() error {
	switch {
	case s.closed:
		return net.ErrClosed
	case s.writing.expired:
		return errDeadline
	case s.core.done && s.core.err != nil:
		return s.core.err
	case s.core.finished:
		return errWriteEnd
	case s.core.done:
		return net.ErrClosed
	case s.relay.Load() != nil:
		return errRelayed
	}
	return nil
}

// CloseWrite ends our direction: the peer reads io.EOF after what was written
// before. The other direction stays open.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	if s.closed || s.core.done {
		return s.fail("close", net.ErrClosed)
	}
	s.finish()
	s.flushAlone(s.mux.clock.now())
	s.unlock()
	return nil
}

// finish queues the END.
func (s *Stream) finish() {
	if c := &s.core; !c.finished {
		c.finished = true
		c.snd.finish()
		s.writable.Broadcast()
	}
}

// Close closes the stream for its user and returns at once. What was written,
// and the END, are delivered in the background; what comes is dropped; when the
// peer has ended its direction too the stream is over. A peer that makes no
// progress for 15 seconds gets a DESTROY. On a stream that was never connected,
// or is relayed, Close is Destroy.
func (s *Stream) Close() error {
	s.mu.Lock()
	if s.closed || s.core.done {
		s.closed = true
		s.dropUnread()
		s.readable.Broadcast()
		s.unlock()
		return nil
	}
	s.closed = true
	c := &s.core
	if !c.connected || s.relay.Load() != nil {
		c.fail(errDestroyed)
		s.unlock()
		return nil
	}
	now := s.mux.clock.now()
	s.closedAt = now
	c.rcv.discard = true
	c.rcv.ackNow = c.rcv.ackNow || c.rcv.advertised < c.rcv.limit/2
	s.dropUnread()
	s.finish()
	s.readable.Broadcast()
	s.writable.Broadcast()
	s.flushAlone(now)
	s.unlock()
	return nil
}

// Destroy ends the stream at once, with a DESTROY to the peer if it is connected
// and not relayed. What was not delivered yet is lost. Err returns err, or an
// error that is net.ErrClosed if err is nil.
func (s *Stream) Destroy(err error) {
	if err == nil {
		err = errDestroyed
	}
	s.mu.Lock()
	s.closed = true
	s.abort(err)
	s.dropUnread()
	s.readable.Broadcast()
	s.writable.Broadcast()
	s.unlock()
}

// SetKeepAlive makes the stream send a HEARTBEAT each time it has been idle for
// d, to keep the path's NAT bindings; 0 ends that. It does not notice a peer
// that is gone: the reference's older versions do not answer.
func (s *Stream) SetKeepAlive(d time.Duration) {
	s.mu.Lock()
	defer s.unlock()
	t := &s.core.timers
	t.keepEvery, t.keep = max(d, 0), 0
	if d > 0 {
		now := s.mux.clock.now()
		t.keep = now.add(d)
		if !s.core.done {
			s.mux.timers.arm(now, s, s.deadline())
		}
	}
}

// LocalAddr returns the address of the stream's socket; before Connect it is the
// zero address.
func (s *Stream) LocalAddr() net.Addr {
	if r := s.route.Load(); r != nil {
		return net.UDPAddrFromAddrPort(r.conn.LocalAddr())
	}
	return &net.UDPAddr{}
}

// RemoteAddr returns the address that packets are sent to; before Connect it is
// the zero address.
func (s *Stream) RemoteAddr() net.Addr {
	if r := s.route.Load(); r != nil {
		return net.UDPAddrFromAddrPort(r.remote)
	}
	return &net.UDPAddr{}
}

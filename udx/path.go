package udx

import (
	"net/netip"
	"time"

	"github.com/warren-dht/warren/internal/seq"
	"github.com/warren-dht/warren/udp"
)

// A path is a socket of ours and an address of the peer's.
type path struct {
	conn   udp.Conn
	remote netip.AddrPort
}

// maxAcceptedPaths bounds how many paths the Accept hook's consent is remembered
// for; the oldest is asked about again.
const maxAcceptedPaths = 4

// paths are those that a stream takes packets from. The reference checks the
// socket only, never the address (docs/spec/udx.md §1.6); see DEVIATIONS.md.
type paths struct {
	current, previous path
	last              path // of the packet that came last
	accepted          []path
}

func (ps *paths) known(p path) bool {
	if p == ps.current || p == ps.previous {
		return p.conn != nil
	}
	for _, a := range ps.accepted {
		if a == p {
			return true
		}
	}
	return false
}

// accept remembers the consent to a path.
func (ps *paths) accept(p path) {
	if len(ps.accepted) == maxAcceptedPaths {
		ps.accepted = append(ps.accepted[:0], ps.accepted[1:]...)
	}
	ps.accepted = append(ps.accepted, p)
}

// intake remembers, for one batch, the path that was rejected last.
type intake struct {
	stream   *Stream
	rejected path
}

// admit asks the Accept hook about a path. s is locked, but not meanwhile. It
// reports whether the packet is to be processed.
func (s *Stream) admit(from path, in *intake) bool {
	if s.accept == nil || in.stream == s && in.rejected == from {
		return false
	}
	s.mu.Unlock()
	ok := s.accept(s, from.conn, from.remote)
	s.mu.Lock()
	if !ok {
		in.stream, in.rejected = s, from
		return false
	}
	if !s.paths.known(from) { // Accept may have connected to it
		s.paths.accept(from)
	}
	return !s.core.done
}

// ConnectOptions are what else is known of the peer.
type ConnectOptions struct {
	// Ack is the number of the peer's first packet (its StreamConfig.Seq). It
	// has no effect when packets have come already.
	Ack uint32
	// RTT is a guess of the round-trip time; 0: none. With one the first packet
	// is sent again after three times that long, if that is less than the usual
	// second.
	RTT time.Duration
	// Unproven says that nothing has shown yet that the peer receives at this
	// address: it may be that of somebody who has asked for nothing. Until a packet
	// comes, the first ones are sent twice at most (RFC 9000, section 8.1, sets
	// such a bound).
	Unproven bool
}

// amplification is how many times the bytes that came from an address may go
// there while it is not validated.
const amplification = 3

// Connect tells the stream its peer: the socket to send from, the peer's stream
// id and its address. Nothing is sent unless something was written, or packets
// came, before. It may be called from the stream's Accept hook.
func (s *Stream) Connect(conn udp.Conn, remoteID uint32, remote netip.AddrPort, opts ConnectOptions) error {
	remote, err := checkPath(conn, remote)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.unlock()
	c := &s.core
	switch {
	case c.done:
		return c.cause()
	case c.connected:
		return ErrConnected
	}
	if c.rcv.next == 0 && len(c.rcv.ooo.have) == 0 {
		c.rcv.next = seq.Number(opts.Ack)
		c.wl1 = c.rcv.next
	}
	c.rttEst.guess = max(opts.RTT, 0)
	c.unproven = opts.Unproven
	c.connect(remoteID, remote)
	s.setRoute(conn, remoteID, remote)
	s.mux.letGo(s)
	s.flushAlone(s.mux.clock.now())
	return nil
}

// LimitPath bounds what is sent on the present path, or before Connect on the
// first one: n bytes from now on, and three times the bytes that come from there
// (RFC 9000, section 8.1). It is for a path on which the peer has not been shown
// to receive. 0 ends the limit. ChangeRemote does not change it.
func (s *Stream) LimitPath(n int) {
	s.mu.Lock()
	defer s.unlock()
	c := &s.core
	ended := c.limited && n <= 0
	c.limited, c.credit = n > 0, n
	if ended && !c.done {
		s.flushAlone(s.mux.clock.now())
	}
}

func checkPath(conn udp.Conn, remote netip.AddrPort) (netip.AddrPort, error) {
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	if conn == nil || !remote.IsValid() || remote.Port() == 0 {
		return remote, errBadAddress
	}
	return remote, nil
}

func (s *Stream) setRoute(conn udp.Conn, remoteID uint32, remote netip.AddrPort) {
	if s.paths.previous.conn != nil {
		s.paths.accept(s.paths.previous) // still, after another change
	}
	s.paths.previous = s.paths.current
	s.paths.current = path{conn, remote}
	s.route.Store(&route{conn, remoteID, remote})
}

// ChangeRemote moves a connected stream to another path, from a relay to the
// peer itself for example: another socket, another id, another address. What is
// sent from now on, retransmissions included, goes there; packets from the old
// path are still taken. The channel is closed when what was sent before is
// acknowledged, which also means that the path works; watch Done as well. A
// change may be changed before it is complete. Window, rate and round trip are
// found anew. The peer is not told: it has to do the same.
func (s *Stream) ChangeRemote(conn udp.Conn, remoteID uint32, remote netip.AddrPort) (<-chan struct{}, error) {
	remote, err := checkPath(conn, remote)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	c := &s.core
	switch {
	case c.done:
		return nil, c.cause()
	case !c.connected:
		return nil, ErrNotConnected
	}
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	done := s.changed
	c.changeRemote(s.mux.clock.now(), remoteID, remote)
	s.setRoute(conn, remoteID, remote)
	s.flushAlone(s.mux.clock.now())
	return done, nil
}

// LastPath returns the socket and the address that the peer's last packet came
// by; a nil socket if none has come.
func (s *Stream) LastPath() (udp.Conn, netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paths.last.conn, s.paths.last.remote
}

// Knock sends one packet by another path than the stream's: a message if there is
// one, else a bare acknowledgement. A blind relay of the peer learns our address
// by it, for example, and a Probe hook of the peer gets the message.
func (s *Stream) Knock(conn udp.Conn, remoteID uint32, remote netip.AddrPort, message []byte) error {
	remote, err := checkPath(conn, remote)
	if err != nil {
		return err
	}
	if len(message) > MaxMessage {
		return ErrMessageTooLong
	}
	fl := flags(0)
	if message != nil {
		fl = flagMessage
	}
	s.mu.Lock()
	if s.core.done {
		return s.fail("write", s.core.cause())
	}
	h := s.core.header(fl)
	h.streamID = remoteID
	if s.paths.current == (path{conn, remote}) {
		s.core.credit -= headerSize + len(message)
	}
	s.mu.Unlock()
	_, err = conn.WriteBatch([]udp.Datagram{{Payload: append(h.Append(nil), message...), Peer: remote}})
	return err
}

// relayIdleTime is how long a relayed stream may go without a packet: nothing in
// the protocol ends a relay (docs/spec/udx.md §10, 23).
const relayIdleTime = 2 * time.Minute

// RelayTo forwards every packet that comes for s to target's peer, with no more
// than the stream id changed (docs/spec/udx.md §2.9); for both directions call it
// on both. The relay neither acknowledges nor sees the streams' ends: s is over
// when a DESTROY has passed and nothing else comes for 15 seconds, when nothing
// came for two minutes, or with target; destroy both when you are done. Of the packets that come
// before target is connected the first few are held until it is, where the
// reference drops them.
func (s *Stream) RelayTo(target *Stream) error {
	m := s.mux
	m.mu.Lock()
	defer m.mu.Unlock()
	if target.mux != m || m.streams[s.id] != s || m.streams[target.id] != target {
		return errNotHere
	}
	if !s.relay.CompareAndSwap(nil, target) {
		return errRelayed
	}
	m.relayed[target] = append(m.relayed[target], s)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := m.clock.now()
	s.core.timers.heard = now
	m.timers.arm(now, s, s.deadline())
	return nil
}

// forward sends a datagram on to the target's peer. s is locked. The payload
// stays borrowed until the batch is written, at the end of HandleBatch.
func (s *Stream) forward(now instant, target *Stream, d udp.Datagram, b *batch) {
	c := &s.core
	c.stats.PacketsReceived++
	c.stats.BytesReceived += uint64(len(d.Payload))
	c.timers.heard = now
	r := target.route.Load()
	if r == nil {
		if r = s.mux.hold(target, d.Payload); r == nil {
			return
		}
	}
	c.doubt.passed(now, flags(d.Payload[offFlags]))
	setStreamID(d.Payload, r.remoteID)
	b.use(r.conn)
	if b.full() {
		b.write()
	}
	b.add(d.Payload, r.remote)
}

package protomux

import (
	"context"
	"fmt"

	"github.com/warren-dht/warren/compact"
)

// A ChannelConfig says what a channel is and does. Its functions are called by
// Run unless noted, one at a time but for OnClose, without locks; slices are
// valid during the call. An error that one returns ends the whole mux.
type ChannelConfig struct {
	// Protocol and ID are what the peer's channel must have as well.
	Protocol string
	ID       []byte // may be nil
	// Aliases are further names of the protocol under which the peer may open
	// its channel. They are ignored if Protocol and ID are in use already.
	Aliases []string
	// Shared allows several channels of the same protocol and id at a time;
	// they are joined with the peer's in the order of opening.
	Shared bool

	// OnOpen is called when both sides have opened the channel, with the
	// peer's handshake, before any message.
	OnOpen func(c *Channel, handshake []byte) error
	// Messages are the functions for messages by their types. A nil one
	// ignores them.
	Messages []func(c *Channel, payload []byte) error
	// OnClose is called when the channel is closed: by Close, or, remote, by
	// Run after the peer has closed or rejected it and at the stream's end.
	OnClose func(c *Channel, remote bool)
}

// A Channel is one protocol's part of the stream. It is safe for concurrent
// use.
type Channel struct {
	mux *Mux
	cfg ChannelConfig

	ready chan struct{} // closed when the peer has opened it too
	done  chan struct{} // closed when it is closed

	// The rest is guarded by the mux's lock.
	pairing  *pairing
	localID  uint64 // 0 before Open
	remoteID uint64 // 0: the peer's is not known
	over     bool
	rejected bool
}

// Channel creates a channel. If the peer has opened one like it already, they
// are a pair. Open tells the peer. It fails with ErrExists if there is an open
// one and this one is not Shared, and after the end.
func (m *Mux) Channel(cfg ChannelConfig) (*Channel, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	p := m.pairing(key{cfg.Protocol, string(cfg.ID)}, cfg.Aliases)
	if p.opened > 0 && !cfg.Shared {
		return nil, ErrExists
	}
	c := &Channel{mux: m, cfg: cfg, pairing: p, ready: make(chan struct{}), done: make(chan struct{})}
	if len(p.incoming) > 0 {
		c.remoteID = p.incoming[0]
		p.incoming = p.incoming[1:]
		m.remote[c.remoteID-1].channel = c
		m.unclaimed--
	}
	p.channels++
	m.channels[c] = struct{}{}
	return c, nil
}

// Open opens the channel with a handshake for the peer, which may be empty.
// Messages can be sent at once. If the channel answers one of the peer's,
// OnOpen and the functions of messages that have come already are called
// before Open returns.
func (c *Channel) Open(handshake []byte) error {
	m := c.mux
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.err != nil:
		return m.err
	case c.over:
		return ErrClosed
	case c.localID > 0:
		return fmt.Errorf("protomux: channel %q was opened before", c.cfg.Protocol)
	}
	open := openMessage{protocol: []byte(c.cfg.Protocol), id: c.cfg.ID, handshake: handshake}
	if !m.out.fits(0, controlOpen, openSize(open)) {
		return ErrTooLarge
	}
	var i int
	if n := len(m.free); n > 0 {
		i = m.free[n-1]
		m.free = m.free[:n-1]
	} else {
		i = len(m.local)
		m.local = append(m.local, localSlot{})
	}
	c.localID = uint64(i + 1)
	m.local[i].channel = c
	p := c.pairing
	p.opened++
	p.last = c
	if c.remoteID == 0 {
		m.local[i].awaiting = p
		p.outgoing = append(p.outgoing, i)
	}
	open.channel = c.localID
	m.put(0, controlOpen, open.Append(nil))
	answers := c.remoteID > 0
	m.kick()
	if !answers {
		return nil
	}
	if c.over {
		return ErrClosed
	}
	err := m.catchUp(c)
	if err != nil {
		m.fail(err)
	}
	return err
}

// opened tells the channel that the peer has opened it.
func (m *Mux) opened(c *Channel, handshake []byte) error {
	close(c.ready)
	if c.cfg.OnOpen == nil {
		return nil
	}
	return m.callFor(c, func() error { return c.cfg.OnOpen(c, handshake) })
}

// catchUp delivers what has come for a channel before it was there.
func (m *Mux) catchUp(c *Channel) error {
	s := m.remote[c.remoteID-1]
	if err := m.opened(c, s.handshake); err != nil {
		return err
	}
	m.held -= len(s.handshake) + s.name
	s.handshake, s.name = nil, 0
	m.change.Broadcast()
	for s.count > 0 && !c.over {
		r, count, size := compact.NewReader(s.messages), s.count, s.size
		s.messages, s.count, s.size = nil, 0, 0
		for ; count > 0; count-- {
			typ, payload := r.Uint(), r.Buffer()
			size -= len(payload)
			m.letGo(1, len(payload))
			if c.over {
				continue
			}
			if err := m.deliver(c, typ, payload); err != nil {
				m.letGo(count-1, size)
				return err
			}
		}
	}
	s.waiting = false
	if s.closed && !c.over {
		m.closed(c, true)
	}
	return nil
}

// Send sends a message of the given type; it copies the payload. While more than
// 1 MiB waits for the stream, Send waits as well, but not in a function that Run
// calls. After the channel's end it fails as WaitOpen does.
func (c *Channel) Send(typ int, payload []byte) error {
	m := c.mux
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.err == nil && !c.over && m.out.full() && !underRun() {
		m.change.Wait()
	}
	switch {
	case m.err != nil:
		return m.err
	case c.over:
		return c.why()
	case c.localID == 0:
		return ErrNotOpen
	case !m.out.fits(c.localID, uint64(typ), len(payload)):
		return ErrTooLarge
	}
	m.put(c.localID, uint64(typ), payload)
	m.kick()
	return nil
}

// Close closes the channel on both sides. It does nothing if it is closed.
func (c *Channel) Close() {
	m := c.mux
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.over {
		return
	}
	if c.localID > 0 {
		if !m.broken {
			m.putControl(controlClose, c.localID)
		}
	} else if c.remoteID > 0 {
		m.refuse(c.remoteID)
		c.remoteID = 0
	}
	m.closed(c, false)
	m.kick()
}

// closed ends a channel here.
func (m *Mux) closed(c *Channel, remote bool) {
	c.over = true
	delete(m.channels, c)
	p := c.pairing
	p.channels--
	if c.localID > 0 {
		p.opened--
		if p.last == c {
			p.last = nil
		}
		i := int(c.localID - 1)
		m.local[i].channel = nil
		if c.remoteID > 0 {
			// Otherwise the number is not free before the peer's answer.
			m.free = append(m.free, i)
		}
	}
	if c.remoteID > 0 {
		m.clear(c.remoteID)
	}
	m.forget(p)
	m.change.Broadcast()
	close(c.done)
	if c.cfg.OnClose != nil {
		m.call(func() error { c.cfg.OnClose(c, remote); return nil })
	}
}

// Protocol returns the protocol's name.
func (c *Channel) Protocol() string { return c.cfg.Protocol }

// ID returns the id, which must not be changed.
func (c *Channel) ID() []byte { return c.cfg.ID }

// Mux returns the mux that the channel belongs to.
func (c *Channel) Mux() *Mux { return c.mux }

// Ready is closed when the peer has opened the channel too.
func (c *Channel) Ready() <-chan struct{} { return c.ready }

// Done is closed when the channel is closed.
func (c *Channel) Done() <-chan struct{} { return c.done }

// WaitOpen waits until the peer has opened the channel too. It fails with
// ErrRejected if the peer does not want it, and with ErrClosed if it was closed
// for another reason.
func (c *Channel) WaitOpen(ctx context.Context) error {
	select {
	case <-c.ready:
		return nil
	case <-c.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-c.ready: // both have happened
		return nil
	default:
	}
	c.mux.mu.Lock()
	defer c.mux.mu.Unlock()
	return c.why()
}

// why tells how a channel has ended.
func (c *Channel) why() error {
	if c.rejected {
		return ErrRejected
	}
	return ErrClosed
}

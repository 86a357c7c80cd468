package protomux

import "github.com/warren-dht/warren/compact"

// receive processes a frame from the peer. The caller holds mu, which is
// released while functions of users run; so is it in all that follows here.
func (m *Mux) receive(frame []byte) error {
	r := compact.NewReader(frame)
	channel := r.Uint()
	if r.Err() != nil {
		return violation("frame without a channel")
	}
	return m.message(channel, r.Rest(), 0)
}

// message processes a message, its type in front.
func (m *Mux) message(channel uint64, b []byte, nesting int) error {
	r := compact.NewReader(b)
	typ := r.Uint()
	if r.Err() != nil {
		return violation("message without a type")
	}
	payload := r.Rest()
	if channel == 0 {
		return m.control(typ, payload, nesting)
	}
	s := m.remoteSlot(channel)
	switch {
	case s == nil:
		return nil // of a channel that is closed here, perhaps on its way already
	case s.waiting:
		m.hold(s, typ, payload)
		return nil
	}
	return m.deliver(s.channel, typ, payload)
}

// deliver hands a message to its channel.
func (m *Mux) deliver(c *Channel, typ uint64, payload []byte) error {
	if typ >= uint64(len(c.cfg.Messages)) || c.cfg.Messages[typ] == nil {
		return nil
	}
	return m.callFor(c, func() error { return c.cfg.Messages[typ](c, payload) })
}

// callFor calls a function of a channel. Its error is the mux's unless the
// channel is closed by then.
func (m *Mux) callFor(c *Channel, f func() error) error {
	err := m.call(f)
	switch {
	case m.err != nil:
		return m.err
	case c.over:
		return nil
	}
	return err
}

func (m *Mux) control(typ uint64, payload []byte, nesting int) error {
	switch typ {
	case controlBatch:
		return m.batch(payload, nesting)
	case controlOpen:
		return m.open(payload)
	case controlReject:
		return m.reject(payload)
	case controlClose:
		channel, err := parseChannel(payload)
		if err != nil {
			return violation("close: %v", err)
		}
		switch s := m.remoteSlot(channel); {
		case s == nil:
		case s.waiting:
			s.closed = true // after what is held has been delivered
		default:
			m.closed(s.channel, true)
		}
	}
	return nil
}

// batch processes the messages of a batch. Answers to more than one leave as a
// batch too.
func (m *Mux) batch(payload []byte, nesting int) error {
	if nesting == maxNesting {
		return violation("batches in batches")
	}
	b, err := parseBatch(payload)
	if err != nil {
		return violation("batch: %v", err)
	}
	corked := false
	defer func() {
		if corked {
			m.uncork()
		}
	}()
	for {
		item, ok, err := b.next()
		if err != nil {
			return violation("batch: %v", err)
		}
		if !ok {
			return nil
		}
		if !corked && b.r.Len() > 0 {
			corked = true
			m.out.corked++
		}
		if err := m.message(b.channel, item, nesting+1); err != nil {
			return err
		}
		if m.stall(); m.err != nil {
			return m.err
		}
	}
}

// remoteSlot returns the slot of a channel of the peer's, or nil.
func (m *Mux) remoteSlot(channel uint64) *remoteSlot {
	if channel == 0 || channel > uint64(len(m.remote)) {
		return nil
	}
	return m.remote[channel-1]
}

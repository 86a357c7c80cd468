package udx

import (
	"net"
)

const (
	// MaxMessage is the largest message, in bytes: what fits into an IPv4
	// packet of 1500. Only messages of up to 1132 bytes get through everywhere.
	MaxMessage = ceilMTU - overhead4
	// maxMessages bounds how many received messages wait for ReadMessage.
	maxMessages = 64
)

// A messageQueue holds received messages, oldest first. Nil is empty and drops
// what it is given: nobody has asked for messages.
type messageQueue struct {
	mem     *memory
	waiting [][]byte
}

// messageCost is what a message costs beside its bytes.
const messageCost = 24

// put appends a copy of b, unless the queue is full, the memory of all streams is
// used up, nobody wants it, or it is larger than any datagram that the reference
// takes.
func (q *messageQueue) put(b []byte) bool {
	if q == nil || len(q.waiting) >= maxMessages || len(b) > maxPayload || q.mem.left() < len(b)+messageCost {
		return false
	}
	q.mem.take(len(b) + messageCost)
	q.waiting = append(q.waiting, append(make([]byte, 0, len(b)), b...))
	return true
}

func (q *messageQueue) take() []byte {
	b := q.waiting[0]
	q.mem.take(-len(b) - messageCost)
	q.waiting[0] = nil
	if q.waiting = q.waiting[1:]; len(q.waiting) == 0 {
		q.waiting = nil
	}
	return b
}

// clear drops all messages.
func (q *messageQueue) clear() {
	for q != nil && len(q.waiting) > 0 {
		q.take()
	}
}

// SendMessage sends b beside the stream: unreliable, unordered, outside of flow
// and congestion control, in one packet. The reference calls it "send".
func (s *Stream) SendMessage(b []byte) error {
	if len(b) > MaxMessage {
		return ErrMessageTooLong
	}
	s.mu.Lock()
	c := &s.core
	switch {
	case s.closed:
		return s.fail("write", net.ErrClosed)
	case c.done:
		return s.fail("write", c.cause())
	case !c.connected:
		return s.fail("write", ErrNotConnected)
	case s.relay.Load() != nil:
		return s.fail("write", errRelayed)
	}
	if size := headerSize + len(b); c.affords(size) { // else it is lost
		out := newBatch()
		out.use(s.paths.current.conn)
		h := c.header(flagMessage)
		out.add(append(h.Append(out.take(size)), b...), c.remote)
		s.write(out)
		out.free()
		c.credit -= size
	}
	s.unlock()
	return nil
}

// ReceiveMessages makes the stream keep up to 64 messages for ReadMessage. Until
// then, and beyond that, messages that come are dropped.
func (s *Stream) ReceiveMessages() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wantMessages()
}

// wantMessages makes the queue, unless its reader is gone. s is locked.
func (s *Stream) wantMessages() {
	if s.messages == nil && !s.closed {
		s.messages = &messageQueue{mem: &s.mux.memory}
	}
}

// dropUnread drops what nobody will read. s is locked.
func (s *Stream) dropUnread() {
	s.core.rcv.queue.clear()
	s.messages.clear()
	s.messages = nil
}

// ReadMessage waits for a message and copies it to b; what does not fit is lost.
// It obeys the read deadline, and implies ReceiveMessages.
func (s *Stream) ReadMessage(b []byte) (int, error) {
	s.mu.Lock()
	s.wantMessages()
	for {
		if err := s.readError(); err != nil {
			return 0, s.fail("read", err)
		}
		if len(s.messages.waiting) > 0 {
			n := copy(b, s.messages.take())
			s.mu.Unlock()
			return n, nil
		}
		if s.core.done {
			return 0, s.fail("read", s.core.cause())
		}
		s.readable.Wait()
	}
}

package protomux

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
)

// A wire is one end of a stream of messages in memory. What is written goes to
// the other end, or is only recorded if there is none.
type wire struct {
	peer *wire

	mu       sync.Mutex
	change   sync.Cond
	incoming [][]byte
	ended    bool // by the peer
	closed   bool
	err      error // of Destroy
	room     int   // if not negative: how many messages the peer may leave unread
	written  [][]byte
	writes   int // calls
	endSent  bool
}

func newWire() *wire {
	w := &wire{room: -1}
	w.change.L = &w.mu
	return w
}

// newPipe returns two ends. With room 0 a write waits until it is read.
func newPipe(room int) (a, b *wire) {
	a, b = newWire(), newWire()
	a.peer, b.peer = b, a
	a.room, b.room = room, room
	return a, b
}

func (w *wire) ReadMessage() ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.incoming) == 0 && !w.ended && !w.closed {
		w.change.Wait()
	}
	switch {
	case w.closed:
		return nil, net.ErrClosed
	case len(w.incoming) == 0:
		return nil, io.EOF
	}
	m := w.incoming[0]
	w.incoming = w.incoming[1:]
	w.change.Broadcast()
	return m, nil
}

func (w *wire) WriteMessages(messages [][]byte) (int, error) {
	w.mu.Lock()
	w.writes++
	for _, m := range messages {
		w.written = append(w.written, bytes.Clone(m))
	}
	closed, peer := w.closed || w.endSent, w.peer
	w.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	if peer == nil {
		return len(messages), nil
	}
	for i, m := range messages {
		if !peer.put(m) {
			return i, net.ErrClosed
		}
	}
	return len(messages), nil
}

// put makes a message arrive, and waits if there is no room.
func (w *wire) put(m []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.incoming = append(w.incoming, bytes.Clone(m))
	w.change.Broadcast()
	for w.room >= 0 && len(w.incoming) > w.room && !w.closed {
		w.change.Wait()
	}
	return !w.closed
}

func (w *wire) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.change.Broadcast()
}

func (w *wire) CloseWrite() error {
	w.mu.Lock()
	w.endSent = true
	w.mu.Unlock()
	if w.peer != nil {
		w.peer.end()
	}
	return nil
}

func (w *wire) Close() error {
	w.mu.Lock()
	w.closed = true
	w.change.Broadcast()
	w.mu.Unlock()
	if w.peer != nil {
		w.peer.end()
	}
	return nil
}

func (w *wire) Destroy(err error) {
	w.mu.Lock()
	w.err = err
	w.mu.Unlock()
	w.Close()
}

// sent returns and forgets what was written.
func (w *wire) sent() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.written
	w.written = nil
	return s
}

// A harness is a mux over a wire whose other end is the test.
type harness struct {
	*Mux
	t    *testing.T
	wire *wire
	run  chan error
}

// hold returns a running mux. To be used in a bubble of synctest.
func hold(t *testing.T) *harness {
	h := &harness{t: t, wire: newWire(), run: make(chan error, 1)}
	h.Mux = New(h.wire)
	go func() { h.run <- h.Run() }()
	t.Cleanup(func() { h.Close() })
	return h
}

// in makes frames arrive and waits until they are processed.
func (h *harness) in(frames ...[]byte) {
	h.t.Helper()
	for _, f := range frames {
		h.wire.put(f)
	}
	synctest.Wait()
}

// want checks what was sent since the last time.
func (h *harness) want(why string, frames ...[]byte) {
	h.t.Helper()
	synctest.Wait()
	sent := h.wire.sent()
	if len(sent) != len(frames) {
		h.t.Fatalf("%s: sent %x, want %x", why, sent, frames)
	}
	for i := range frames {
		if !bytes.Equal(sent[i], frames[i]) {
			h.t.Fatalf("%s: frame %d is %x, want %x", why, i, sent[i], frames[i])
		}
	}
}

// over reports whether Run has ended, and with what.
func (h *harness) over() (error, bool) {
	synctest.Wait()
	select {
	case err := <-h.run:
		h.run <- err
		return err, true
	default:
		return nil, false
	}
}

// must returns the channel of a call that does not fail.
func must(c *Channel, err error) *Channel {
	if err != nil {
		panic(err)
	}
	return c
}

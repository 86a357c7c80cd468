// Package protomux runs many protocols over one stream of messages, each in
// channels of its own (docs/spec/secret-stream.md §13). Both sides are equal:
// each opens its channels, and those of the same protocol and id are joined.
//
// One message of the stream is one frame. Integers are compact-encoding's:
//
//	| channel | type | payload |           to the sender's channel of that number
//	| 0 | 1 open   | channel | protocol (string) | id (buffer) | handshake |
//	| 0 | 2 reject | channel |             the receiver's, which it had opened
//	| 0 | 3 close  | channel |             the sender's
//	| 0 | 0 batch  | channel | item ... |
//	      item:  | length | type | payload |    for the current channel
//	             | 0 | channel |                which becomes the current one
//
// A [Mux] is driven by the procedure [Mux.Run], which reads the stream and calls
// the functions of the channels. What a channel's messages mean is its owner's
// business: payloads and handshakes are bytes here.
//
// Left out: the encodings of the reference's messages (package compact), and
// its notice that a stream has drained (sending waits instead).
package protomux

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// MaxFrame is the largest frame that can be sent, in bytes: what a message of a
// secret stream holds. A peer may accept less: peers of this project accept 1 MiB
// unless their application asks for more.
const MaxFrame = 1<<24 - 1 - 17

// Limits of this implementation.
const (
	// maxChannels bounds the peer's channel numbers: the size of a table.
	maxChannels = 1 << 16
	// maxUnclaimed bounds the peer's channels that wait for a decision; more
	// are rejected.
	maxUnclaimed = 1024
	// maxHeld is how much is held for channels that wait for a decision, in
	// bytes and 512 for each message; above it nothing is read (the reference's
	// number).
	maxHeld = 32768
	// maxQueued is how much output waits for the stream; above it Send waits,
	// unless a function of a channel calls it.
	maxQueued = 1 << 20
	// maxWaived is how much such functions may add all the same; above it
	// nothing is read until the stream has taken some, or stallTime is over.
	maxWaived = 2 << 20
	stallTime = 30 * time.Second
	// maxBatch is the size at which a batch is sent even while corked. Batches of
	// several messages have no more than twice that, which every peer accepts.
	maxBatch = 512<<10 - 64
	// maxNesting is how deep batches may lie in batches. Nobody does that.
	maxNesting = 4
)

// Errors of a mux and its channels.
var (
	ErrClosed   = errors.New("protomux: closed")
	ErrExists   = errors.New("protomux: a channel of this protocol and id is open")
	ErrNotOpen  = errors.New("protomux: channel was not opened")
	ErrRejected = errors.New("protomux: the peer rejected the channel")
	ErrTooLarge = errors.New("protomux: message too large")
	// ErrStalled means that the peer asks for more and more and does not read
	// the answers.
	ErrStalled = errors.New("protomux: the peer does not read")
	// ErrProtocol means that the peer has broken the protocol.
	ErrProtocol = errors.New("protomux: protocol violation")
)

// A Conn is a stream that keeps the boundaries of messages: a
// [*secretstream.Conn]. ReadMessage returns a slice that is valid until its
// next call, and io.EOF at the end; WriteMessages keeps none of its arguments.
// If the Conn has a method Destroy(error) it is called instead of Close after
// failures.
//
// [*secretstream.Conn]: https://pkg.go.dev/github.com/warren-dht/warren/secretstream#Conn
type Conn interface {
	ReadMessage() ([]byte, error)
	WriteMessages(messages [][]byte) (int, error)
	CloseWrite() error
	Close() error
}

// A Mux shares a stream among channels. It is safe for concurrent use; its
// functions may be called from the channels' functions too.
type Mux struct {
	conn Conn
	done chan struct{} // closed when Run has ended

	mu          sync.Mutex
	change      sync.Cond // the output was sent, or held messages were let go, or it is over
	err         error     // why it is over; nil while it is not
	broken      bool      // and nothing can be sent any more
	dispatching bool      // Run calls functions of channels

	local     []localSlot   // our channels, by number - 1
	free      []int         // unused elements of local, the last is taken first
	remote    []*remoteSlot // the peer's channels, by number - 1; nil: none
	channels  map[*Channel]struct{}
	pairings  map[key]*pairing
	listeners map[key]func(*Offer)
	unclaimed int // elements of remote that have no channel
	held      int // see maxHeld

	out output
}

// New returns a mux over conn, whose sole user it is. Channels can be opened
// at once; nothing is received before Run.
func New(conn Conn) *Mux {
	m := &Mux{
		conn:      conn,
		done:      make(chan struct{}),
		channels:  make(map[*Channel]struct{}),
		pairings:  make(map[key]*pairing),
		listeners: make(map[key]func(*Offer)),
	}
	m.change.L = &m.mu
	return m
}

// Conn returns the stream.
func (m *Mux) Conn() Conn { return m.conn }

// Done is closed when Run has ended.
func (m *Mux) Done() <-chan struct{} { return m.done }

// Run reads the stream until its end and calls the functions of channels and
// listeners for what comes, one after the other. It is to be called once. It
// returns nil when the peer has ended the stream, ErrClosed after Close, and
// otherwise what has gone wrong. In any case all channels are closed then, and
// the stream is.
func (m *Mux) Run() error {
	for {
		frame, err := m.conn.ReadMessage()
		if err == nil {
			err = m.dispatch(frame)
		}
		if err != nil {
			return m.finish(err)
		}
	}
}

// dispatch processes a frame, and waits if there is too much to do already.
func (m *Mux) dispatch(frame []byte) error {
	if len(frame) == 0 {
		return nil // a keep-alive
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dispatching = true
	err := m.receive(frame)
	m.kick()
	if err == nil {
		m.stall()
	}
	m.dispatching = false
	for err == nil && m.err == nil && m.held > maxHeld {
		m.change.Wait()
	}
	if m.err != nil {
		return m.err
	}
	return err
}

// stall waits until the stream has taken some of what the channels' functions
// have sent, if that is too much.
func (m *Mux) stall() {
	if !m.out.overfull() {
		return
	}
	m.out.sendBatch()
	m.kick()
	timer := time.AfterFunc(stallTime, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.out.overfull() {
			m.fail(ErrStalled)
		}
	})
	defer timer.Stop()
	for m.err == nil && m.out.overfull() {
		m.change.Wait()
	}
}

// finish ends the mux on behalf of Run.
func (m *Mux) finish(err error) error {
	m.mu.Lock()
	ended := errors.Is(err, io.EOF)
	if m.err == nil && ended {
		m.err = ErrClosed
		if !m.out.flushing {
			m.sayGoodbye()
		}
	} else {
		m.fail(err)
		err, ended = m.err, false
	}
	for {
		c := m.anyChannel()
		if c == nil {
			break
		}
		m.closed(c, true)
	}
	m.mu.Unlock()
	close(m.done)
	if ended {
		return nil
	}
	return err
}

// anyChannel returns a channel that is not closed, the lowest number first.
func (m *Mux) anyChannel() *Channel {
	for _, l := range m.local {
		if l.channel != nil {
			return l.channel
		}
	}
	for c := range m.channels {
		return c
	}
	return nil
}

// sayGoodbye ends the stream in answer to the peer's end, which the reference
// does at once: half-open streams have no channels.
func (m *Mux) sayGoodbye() {
	m.broken = true
	m.conn.CloseWrite() // if it cannot, Close does
	m.conn.Close()
}

// Close ends the stream and all channels; the peer sees the end of the stream.
// Output that had to wait may be lost. Run calls the channels' OnClose.
func (m *Mux) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil
	}
	m.err, m.broken = ErrClosed, true
	m.change.Broadcast()
	return m.conn.Close()
}

// fail ends the mux for a reason, which is wrapped unless it is ours. The caller
// holds mu.
func (m *Mux) fail(err error) {
	if m.err == nil {
		m.err = err
	}
	if m.broken {
		return
	}
	m.broken = true
	m.change.Broadcast()
	if conn, ok := m.conn.(interface{ Destroy(error) }); ok {
		conn.Destroy(m.err)
		return
	}
	m.conn.Close()
}

// violation makes the error for a broken rule.
func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// call calls a function of a user without the lock. The caller holds mu.
func (m *Mux) call(f func() error) error {
	m.mu.Unlock()
	defer m.mu.Lock()
	return f()
}

// Idle reports whether no channel is open.
func (m *Mux) Idle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.local) == len(m.free)
}

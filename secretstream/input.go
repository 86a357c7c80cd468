package secretstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/warren-dht/warren/internal/sodium"
)

// A waiter is a raw stream that can say when there is something to read, so
// that nobody holds a buffer until then. WaitRead returns nil when Read would
// not wait, be it for an error; it heeds the read deadline.
type waiter interface{ WaitRead() error }

// input is the receiving direction: raw bytes, frames, messages.
type input struct {
	conn      *Conn
	raw       net.Conn
	wait      waiter // or nil
	maxFrame  atomic.Int64
	skipEmpty atomic.Bool
	deadline  atomic.Int64          // of reading, in Unix nanoseconds; 0: none
	failed    atomic.Pointer[error] // why the stream was ended from outside
	stall     stallWatch
	progress  atomic.Int64  // bytes of the frame that has a claim
	bytes     atomic.Uint64 // of data frames
	proven    atomic.Bool   // a message was opened

	// key and id are set before the first read and valid until the header is
	// read.
	key [sodium.StreamKeySize]byte
	id  [idSize]byte

	turn    *semaphore.Weighted // guards what follows; held while waiting for raw
	err     error               // final
	started bool                // the header was read
	held    bool                // the current message was opened by WaitProof, and nobody has read of it
	pull    sodium.Pull

	// The bytes received and not consumed are buf.b[lo:hi]:
	//
	//	| headroom | consumed, plain | lo: frames, the last one cut | hi: room |
	buf    *buffer // nil while nothing is held
	lo, hi int
	filled bool   // the last read of raw took all the room there was
	plain  []byte // rest of the current message, in the consumed part

	claimed bool // memory of the process, for a large frame
}

func (in *input) init(c *Conn, cfg Config) {
	in.conn, in.raw, in.turn = c, c.raw, semaphore.NewWeighted(1)
	in.wait, _ = c.raw.(waiter)
	in.setMaxMessage(cfg.MaxMessage)
	in.skipEmpty.Store(cfg.SkipEmpty)
}

func (in *input) setMaxMessage(n int) {
	if n <= 0 {
		n = DefaultMaxMessage
	}
	n = min(n, MaxMessage)
	if n > DefaultMaxMessage {
		frames.allow(n + sodium.StreamOverhead)
	}
	in.maxFrame.Store(int64(n + sodium.StreamOverhead))
}

// Read reads plaintext as a net.Conn does. It returns io.EOF when the peer has
// ended its side, and io.ErrUnexpectedEOF when it did so inside a frame.
func (c *Conn) Read(p []byte) (n int, err error) {
	c.in.turn.Acquire(context.Background(), 1)
	defer c.in.turn.Release(1)
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.in.plain) == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	c.in.held = false
	for {
		m := copy(p[n:], c.in.plain)
		c.in.plain = c.in.plain[m:]
		n += m
		// Another message only if that takes no waiting.
		if n == len(p) || !c.in.frameIsHere() || c.next() != nil {
			c.in.rest()
			return n, nil
		}
	}
}

// rest gives an empty buffer back until there is something to read: nobody
// knows when Read is called next.
func (in *input) rest() {
	if in.wait != nil && !in.filled && in.lo == in.hi && len(in.plain) == 0 {
		in.release()
	}
}

// ReadMessage returns the next message of the peer, or what Read has left of
// the current one. The slice is valid until the next call of ReadMessage or
// Read. Empty messages are returned unless the [Config] says otherwise. For
// one reader at a time.
func (c *Conn) ReadMessage() ([]byte, error) {
	c.in.turn.Acquire(context.Background(), 1)
	defer c.in.turn.Release(1)
	if c.closed.Load() {
		return nil, net.ErrClosed
	}
	for len(c.in.plain) == 0 {
		if err := c.next(); err != nil {
			return nil, err
		}
		if !c.in.skipEmpty.Load() {
			break
		}
	}
	m := c.in.plain
	c.in.plain, c.in.held = nil, false
	return m, nil
}

// WriteTo writes all that the peer sends to w until the end, without a buffer of
// its own; io.Copy uses it. For one reader at a time.
func (c *Conn) WriteTo(w io.Writer) (n int64, err error) {
	for {
		m, err := c.ReadMessage()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if len(m) == 0 {
			continue
		}
		k, err := w.Write(m)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
}

// next makes the next message the current one. The caller holds in.turn.
func (c *Conn) next() error { return c.step((*input).message) }

// step takes a step of the input and sees to its failure. The caller holds
// in.turn.
func (c *Conn) step(f func(*input) error) error {
	in := &c.in
	if in.err != nil {
		return in.err
	}
	err := f(in)
	in.stall.goesOn()
	if err == nil {
		return nil
	}
	if reason := in.failed.Load(); reason != nil {
		err = *reason
	} else if c.closed.Load() {
		err = net.ErrClosed
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err // and nothing is lost
	}
	in.err = err
	in.release()
	if errors.Is(err, ErrFrame) || errors.Is(err, ErrHeader) || errors.Is(err, ErrMessage) {
		c.abort(err)
	}
	return err
}

// WaitPeer waits until the peer's header has come. That does not prove who sent
// it: an observer of the handshake can make it, too. It heeds the read deadline,
// and takes nothing of what follows the header.
func (c *Conn) WaitPeer() error {
	c.in.turn.Acquire(context.Background(), 1)
	defer c.in.turn.Release(1)
	if c.closed.Load() {
		return net.ErrClosed
	}
	return c.step((*input).header)
}

// WaitProof waits until the first message of the peer has been opened. It proves
// that the other end holds the session's keys, and so the secret key of
// RemotePublicKey. The message is not lost: the next read returns it. A peer
// with Config.Prove sends an empty one at once; others may say nothing before
// their first keep-alive. WaitProof heeds the read deadline.
func (c *Conn) WaitProof() error {
	c.in.turn.Acquire(context.Background(), 1)
	defer c.in.turn.Release(1)
	if c.closed.Load() {
		return net.ErrClosed
	}
	return c.step((*input).proof)
}

// Proven reports whether a message of the peer has been opened; see WaitProof.
func (c *Conn) Proven() bool { return c.in.proven.Load() }

// proof opens the peer's first message unless that is done.
func (in *input) proof() error {
	if in.proven.Load() {
		return nil
	}
	if err := in.message(); err != nil {
		return err
	}
	in.held = true
	in.rest()
	return nil
}

// header reads the peer's header unless that is done.
func (in *input) header() error {
	if in.started {
		return nil
	}
	off, _, err := in.frame(headerSize, headerSize)
	if err != nil {
		return err
	}
	b := in.buf.b[off:]
	if !bytes.Equal(b[:idSize], in.id[:]) {
		return ErrHeader
	}
	in.pull = sodium.NewPull(&in.key, (*[sodium.StreamHeaderSize]byte)(b[idSize:]))
	clear(in.key[:])
	in.started = true
	return nil
}

// message makes the next message the current one: that which was held, or one
// that it reads and opens.
func (in *input) message() error {
	if in.held {
		in.held = false
		return nil
	}
	if err := in.header(); err != nil {
		return err
	}
	off, n, err := in.frame(sodium.StreamOverhead, int(in.maxFrame.Load()))
	if err != nil {
		return err
	}
	in.bytes.Add(uint64(prefixSize + n))
	if _, ok := in.pull.OpenInPlace(in.buf.b, off, n); !ok {
		return ErrMessage
	}
	in.proven.Store(true)
	in.plain = in.buf.b[off+1:][:n-sodium.StreamOverhead]
	return nil
}

// frame consumes a frame and returns where in the buffer its body lies. The
// body is valid until the next call.
func (in *input) frame(least, most int) (off, n int, err error) {
	in.plain = nil
	if err := in.fill(prefixSize); err != nil {
		return 0, 0, err
	}
	n = frameLength(in.buf.b[in.lo:])
	switch {
	case n > most && most > headerSize && n <= maxFrame:
		return 0, 0, fmt.Errorf("%w: %d bytes, the limit is %d (Config.MaxMessage)", ErrFrame, n, most)
	case n < least || n > most:
		return 0, 0, ErrFrame
	}
	if prefixSize+n > largeSize && in.hi-in.lo < prefixSize+n && !in.claimed {
		if err := in.claim(n); err != nil {
			return 0, 0, err
		}
	}
	if err := in.fill(prefixSize + n); err != nil {
		return 0, 0, err
	}
	in.unclaim()
	off = in.lo + prefixSize
	in.lo = off + n
	return off, n, nil
}

// frameIsHere says whether a whole frame has been received already.
func (in *input) frameIsHere() bool {
	held := in.hi - in.lo
	return held >= prefixSize && held >= prefixSize+frameLength(in.buf.b[in.lo:])
}

// maxEmptyReads is how often raw may return neither bytes nor an error.
const maxEmptyReads = 100

// fill reads until need bytes are there.
func (in *input) fill(need int) error {
	for empty := 0; in.hi-in.lo < need; {
		if in.hi > in.lo {
			in.stall.waits(in.conn, need)
			in.progress.Store(int64(in.hi - in.lo))
		}
		if err := in.makeRoom(need); err != nil {
			return err
		}
		room := in.buf.b[in.hi:]
		n, err := in.raw.Read(room)
		in.hi += n
		in.stall.reads.Add(1)
		in.filled = n == len(room)
		if err != nil && in.hi-in.lo < need {
			if errors.Is(err, io.EOF) && in.hi > in.lo {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if n > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads {
			return io.ErrNoProgress
		}
	}
	return nil
}

// makeRoom provides a buffer to read into. While there is a lot to read, the
// buffer grows; to wait, it shrinks to what the cut frame at its end needs: a
// peer has to send something for what it makes us hold.
func (in *input) makeRoom(need int) error {
	held := in.hi - in.lo
	size := smallSize
	switch {
	case in.buf == nil:
	case in.filled:
		// There is more. Beyond the pooled sizes only as the frame needs it.
		size = in.buf.size()
		if size < largeSize {
			size++ // the next size
		} else if held == size {
			size = min(2*size, need)
		}
	case held > mediumSize/4:
		size = in.buf.size()
	case held > smallSize/2:
		size = mediumSize
	}
	if in.wait != nil && !in.filled {
		if held == 0 {
			in.release()
		} else {
			in.resize(size)
		}
		if err := in.wait.WaitRead(); err != nil {
			return err
		}
		if need > largeSize || in.bytes.Load() > largeSize {
			size = max(size, largeSize)
		} else {
			// A peer that has sent little yet may have begun a large frame, for
			// which there must be memory before more of it is held.
			size = max(size, mediumSize)
		}
	}
	in.resize(size)
	return nil
}

// resize moves the bytes that are held to the start of a buffer with room for
// size bytes.
func (in *input) resize(size int) {
	if old := in.buf; old == nil {
		in.buf = borrow(size)
		in.hi = headroom
	} else if target := borrowedSize(size); target == old.size() {
		in.hi = headroom + copy(old.b[headroom:], old.b[in.lo:in.hi])
	} else {
		in.buf = borrow(size)
		in.hi = headroom + copy(in.buf.b[headroom:], old.b[in.lo:in.hi])
		old.giveBack()
	}
	in.lo = headroom
}

// release gives the buffer back, and what it holds.
func (in *input) release() {
	in.plain = nil
	in.unclaim()
	if in.buf != nil {
		in.buf.giveBack()
		in.buf, in.lo, in.hi, in.filled = nil, 0, 0, false
	}
}

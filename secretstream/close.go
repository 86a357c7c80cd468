package secretstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// lingerTime is how long a closed stream whose peer was never heard waits for
// the peer to close.
const lingerTime = 5 * time.Second

// A halfCloser is a raw stream whose two directions end each on its own.
type halfCloser interface{ CloseWrite() error }

// A destroyer is a raw stream that can end at once, and that otherwise delivers
// in the background what was written before Close: a *udx.Stream.
type destroyer interface{ Destroy(error) }

// CloseWrite sends the end of the stream; reading goes on. It fails with
// [errors.ErrUnsupported] if the raw stream cannot do that.
func (c *Conn) CloseWrite() error {
	raw, ok := c.raw.(halfCloser)
	if !ok {
		return fmt.Errorf("secretstream: closing one direction: %w", errors.ErrUnsupported)
	}
	c.keepAlive.stop()
	c.out.turn.Acquire(context.Background(), 1)
	defer c.out.turn.Release(1)
	if err := c.out.ready(c.raw); err != nil {
		return err
	}
	c.out.err = net.ErrClosed
	return raw.CloseWrite()
}

// Close closes the stream and the raw stream in both directions; what was
// written is still delivered if the raw stream delivers it. Reads and writes
// that wait return.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	c.keepAlive.stop()
	frames.release(&c.in)
	if c.linger() {
		return nil
	}
	return c.raw.Close()
}

// linger closes the raw stream in the background if it has to be emptied first:
// a kernel that closes a TCP connection with bytes nobody has read resets it,
// and what we have written is lost. Those bytes are always there when nobody
// has ever read, the peer's header.
func (c *Conn) linger() bool {
	raw, ok := c.raw.(halfCloser)
	if _, udx := c.raw.(destroyer); !ok || udx {
		return false
	}
	if !c.in.turn.TryAcquire(1) {
		return false
	}
	defer c.in.turn.Release(1)
	if c.in.started || c.in.err != nil || !c.out.turn.TryAcquire(1) {
		return false
	}
	defer c.out.turn.Release(1)
	if c.out.err != nil {
		return false
	}
	c.in.err, c.out.err = net.ErrClosed, net.ErrClosed
	if c.raw.SetReadDeadline(time.Now().Add(lingerTime)) != nil || raw.CloseWrite() != nil {
		return false
	}
	go func() {
		io.Copy(io.Discard, c.raw)
		c.raw.Close()
	}()
	return true
}

// Destroy ends the stream at once, and the raw stream with the reason err; what
// was written may be lost. A raw stream without a method Destroy is closed.
func (c *Conn) Destroy(err error) {
	c.closed.Store(true)
	c.abort(err)
}

// abort ends the raw stream. The peer gets no explanation.
func (c *Conn) abort(err error) {
	c.keepAlive.stop()
	frames.release(&c.in)
	if raw, ok := c.raw.(destroyer); ok {
		raw.Destroy(err)
		return
	}
	c.raw.Close()
}

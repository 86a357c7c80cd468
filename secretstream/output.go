package secretstream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/warren-dht/warren/internal/sodium"
)

// chunk is how much of a long Write goes into one frame. A frame is delivered
// when all of it has arrived, so it is not larger; and it is a multiple of 8,
// whose MAC is the AEAD's (see package sodium). Eight frames fill a buffer.
const chunk = 16<<10 - 24

const frameOverhead = prefixSize + sodium.StreamOverhead

// output is the sending direction: messages, frames, raw bytes.
type output struct {
	bytes atomic.Uint64

	turn *semaphore.Weighted // guards what follows; held while raw is written to
	err  error               // final
	push sodium.Push
	// rest is the end of a frame of which raw took only the beginning before
	// the write deadline. It goes first.
	rest []byte
}

// A batch is a buffer full of sealed frames on their way to the raw stream.
type batch struct {
	buf      *buffer
	end      int         // of the frames, which begin behind the headroom
	messages int         // in them
	size     int         // bytes of messages in them
	start    sodium.Push // the state before the first frame
}

// begin starts a batch with room for size bytes of frames.
func (o *output) begin(size int) batch {
	return batch{buf: borrow(size), end: headroom, start: o.push}
}

// appendProof appends the frame of an empty message to b.
func (o *output) appendProof(b []byte) []byte {
	f := o.begin(frameOverhead)
	defer f.buf.giveBack()
	o.add(&f, nil)
	o.bytes.Add(frameOverhead)
	return append(b, f.buf.b[headroom:f.end]...)
}

func (b *batch) fits(n int) bool { return b.end+n+frameOverhead <= len(b.buf.b) }

// add seals a message into the batch, where it fits.
func (o *output) add(b *batch, message []byte) {
	off := len(appendPrefix(b.buf.b[:b.end], len(message)+sodium.StreamOverhead))
	copy(b.buf.b[off+1:], message)
	o.push.SealInPlace(b.buf.b, off, len(message), sodium.TagMessage)
	b.end = off + len(message) + sodium.StreamOverhead
	b.messages++
	b.size += len(message)
}

// send writes the batch to raw in one piece and empties it. It returns how
// many messages, and bytes of them, are on their way: if the deadline strikes,
// those of which a part is; the others have not happened.
func (o *output) send(raw net.Conn, b *batch) (messages, size int, err error) {
	wire := b.buf.b[headroom:b.end]
	n, err := o.write(raw, wire)
	if err == nil {
		messages, size, n = b.messages, b.size, len(wire)
	} else {
		// Back to the start and past the frames that raw has begun to send.
		o.push = b.start
		sent := n
		for n = 0; n < sent; messages++ {
			sealed := wire[n+prefixSize:][:frameLength(wire[n:])]
			o.push.Skip(sealed, sodium.TagMessage)
			n += prefixSize + len(sealed)
			size += len(sealed) - sodium.StreamOverhead
		}
		o.rest = append(o.rest, wire[sent:n]...)
	}
	o.bytes.Add(uint64(n))
	b.start, b.end, b.messages, b.size = o.push, headroom, 0, 0
	return messages, size, err
}

// write writes to raw. Unless the deadline is its cause an error is final.
func (o *output) write(raw net.Conn, p []byte) (n int, err error) {
	n, err = raw.Write(p)
	if n < len(p) && err == nil {
		err = io.ErrShortWrite
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		o.err = err
	}
	return n, err
}

// ready brings the direction to the start of a frame. The caller holds turn.
func (o *output) ready(raw net.Conn) error {
	if o.err != nil {
		return o.err
	}
	if len(o.rest) == 0 {
		return nil
	}
	n, err := o.write(raw, o.rest)
	if o.rest = o.rest[n:]; len(o.rest) == 0 {
		o.rest = nil
	}
	return err
}

// Write writes p as a net.Conn does: one message if p has up to 16360 bytes,
// several otherwise. When it returns, the raw stream has them.
//
// If it fails by the deadline, n bytes are on their way, of which the end may
// still be here; the next write begins with it. An empty p does only that.
func (c *Conn) Write(p []byte) (n int, err error) {
	o := &c.out
	o.turn.Acquire(context.Background(), 1)
	defer o.turn.Release(1)
	if err := o.ready(c.raw); err != nil || len(p) == 0 {
		return 0, err
	}
	b := o.begin(min(len(p)+(len(p)/chunk+1)*frameOverhead, largeSize))
	defer b.buf.giveBack()
	for len(p) > 0 {
		for len(p) > 0 && b.fits(min(len(p), chunk)) {
			message := p[:min(len(p), chunk)]
			o.add(&b, message)
			p = p[len(message):]
		}
		_, size, err := o.send(c.raw, &b)
		n += size
		if err != nil {
			return n, err
		}
	}
	c.keepAlive.wrote()
	return n, nil
}

// WriteMessage writes p, which may be empty, as one message; longer ones than
// MaxMessage fail with ErrTooLarge. When it returns, the raw stream has it. If
// it fails by the deadline, see [Conn.WriteMessages].
func (c *Conn) WriteMessage(p []byte) error {
	if len(p) > MaxMessage {
		return ErrTooLarge
	}
	o := &c.out
	o.turn.Acquire(context.Background(), 1)
	defer o.turn.Release(1)
	if err := o.ready(c.raw); err != nil {
		return err
	}
	return c.writeMessage(p)
}

// writeMessage writes one message. The caller holds out.turn.
func (c *Conn) writeMessage(p []byte) error {
	o := &c.out
	b := o.begin(len(p) + frameOverhead)
	defer b.buf.giveBack()
	o.add(&b, p)
	_, _, err := o.send(c.raw, &b)
	if err == nil {
		c.keepAlive.wrote()
	}
	return err
}

// WriteMessages writes each element as one message, together as few pieces as
// possible. It returns how many are on their way: all of them, or, if the
// deadline strikes, fewer, of which the end of the last may still be here; the
// next write begins with it. ErrTooLarge fails before anything is written.
func (c *Conn) WriteMessages(messages [][]byte) (n int, err error) {
	total := 0
	for _, m := range messages {
		if len(m) > MaxMessage {
			return 0, ErrTooLarge
		}
		total += len(m) + frameOverhead
	}
	o := &c.out
	o.turn.Acquire(context.Background(), 1)
	defer o.turn.Release(1)
	if err := o.ready(c.raw); err != nil || len(messages) == 0 {
		return 0, err
	}
	b := o.begin(min(total, largeSize))
	defer func() { b.buf.giveBack() }()
	for len(messages) > 0 {
		if first := len(messages[0]); !b.fits(first) {
			b.buf.giveBack()
			b = o.begin(first + frameOverhead)
		}
		for len(messages) > 0 && b.fits(len(messages[0])) {
			o.add(&b, messages[0])
			messages = messages[1:]
		}
		sent, _, err := o.send(c.raw, &b)
		n += sent
		if err != nil {
			return n, err
		}
	}
	c.keepAlive.wrote()
	return n, nil
}

// Package secretstream is the encrypted stream between HyperDHT's peers:
// libsodium's secretstream, keyed by a Noise handshake, over any net.Conn
// (docs/spec/secret-stream.md §6 to §11).
//
// The raw stream is a sequence of frames in each direction. A length counts
// the bytes behind it, little-endian:
//
//	| length 3 | Noise message |             only when the stream itself shakes hands
//	| length 3 | stream id 32 | header 24 |  once, length 56
//	| length 3 | tag 1 | message | MAC 16 |  any number, in order
//
// A message is what one write of the peer was. [Conn.Read] and [Conn.Write]
// ignore the boundaries, as a net.Conn does; [Conn.ReadMessage] and
// [Conn.WriteMessage] keep them. An empty message is a keep-alive.
//
// The end of the stream is the raw stream's end: that an attacker has cut it
// at a boundary of two frames is not detectable here, and what two programs
// say to each other has to show its own end.
//
// Beside the stream, [Conn.Send] and [Conn.Receive] carry encrypted datagrams,
// unordered and unreliable, if the raw stream does (udx.Stream). The reference's
// keys for them are not secret; see [DatagramKeys].
//
// The header binds a stream to its handshake but proves nothing: it consists of
// what an observer of the handshake knows. The first message proves that the
// peer holds the session's keys; see [Conn.WaitProof].
//
// A Conn starts no goroutine and holds no buffer while it waits for more than
// the length of a small message.
//
// Left out: the idle timeout (deadlines do that), an in-memory raw stream for
// callers who have none (net.Pipe is one), and Noise patterns beyond IK and XX.
package secretstream

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/warren-dht/warren/internal/sodium"
	"github.com/warren-dht/warren/noise"
)

// MaxMessage is the largest message that can be sent, in bytes: what a frame can
// hold. Peers may accept less.
const MaxMessage = maxFrame - sodium.StreamOverhead

// DefaultMaxMessage is the largest message that a stream accepts unless its
// [Config] says otherwise, in bytes.
const DefaultMaxMessage = 1 << 20

const (
	prefixSize = 3 // length of a frame
	maxFrame   = 1<<24 - 1
	idSize     = 32
	headerSize = idSize + sodium.StreamHeaderSize
)

// Errors of a stream. Those of the raw stream are passed on as they are. All
// but ErrTooLarge, ErrNoDatagrams and ErrInsecureDatagrams are final.
var (
	ErrHandshake = errors.New("secretstream: handshake failed")
	ErrHeader    = errors.New("secretstream: the peer's header does not belong to this handshake")
	ErrFrame     = errors.New("secretstream: frame of an invalid length")
	ErrMessage   = errors.New("secretstream: message is not authentic")
	// ErrStalled means that the peer has begun a message and does not send the
	// rest: nothing for 30 seconds, or the whole more slowly than 4 KiB a second.
	ErrStalled     = errors.New("secretstream: the peer does not send the rest of a message")
	ErrTooLarge    = errors.New("secretstream: message too large")
	ErrNoDatagrams = errors.New("secretstream: the raw stream carries no datagrams")
	// ErrInsecureDatagrams: no keys for datagrams were agreed on that only the
	// two ends know. DatagramsInsecure uses the reference's.
	ErrInsecureDatagrams = errors.New("secretstream: the peer has no secret keys for datagrams; use messages of the stream, or allow the insecure form by name")
)

// Config says how a stream behaves. The zero value is ready for use.
type Config struct {
	// KeepAlive is how long the sending side may be silent before an empty
	// message is sent, up to a fiftieth earlier so that many connections do it
	// together; 0 means for ever. While it is set, and afterwards, empty
	// messages from the peer are taken for keep-alives and not shown.
	KeepAlive time.Duration
	// SkipEmpty hides empty messages from ReadMessage without KeepAlive.
	SkipEmpty bool
	// Prove sends an empty message right behind the header. It proves at once
	// that this side holds the session's keys; see [Conn.WaitProof]. A peer that
	// does not skip empty messages sees it as one.
	Prove bool
	// Datagrams chooses the keys of Send and Receive. Both sides must choose the
	// same. Default: DatagramsRefused.
	Datagrams DatagramKeys
	// MaxMessage is the largest message that the stream accepts, in bytes. A peer
	// can make the stream hold that much; a larger message ends the stream with
	// ErrFrame. All streams of the process together hold 6 MiB of messages of more
	// than 128 KiB that have not come in whole, or four times the largest MaxMessage
	// that was asked for if that is more; streams beyond that wait. Zero means
	// DefaultMaxMessage; more than the constant MaxMessage means the constant.
	MaxMessage int

	// The rest concerns only Client and Server.

	// Pattern is the Noise pattern. The zero value is XX.
	Pattern noise.Pattern
	// Static is this side's identity; nil makes one up.
	Static noise.StaticKey
	// RemotePublicKey is the key that the peer must prove to hold; zero means
	// any. A Client with the pattern IK needs it.
	RemotePublicKey noise.PublicKey
	// HandshakeTimeout bounds the handshake; 0 means DefaultHandshakeTimeout,
	// less means never.
	HandshakeTimeout time.Duration

	// For tests with known outcomes.
	header    *[sodium.StreamHeaderSize]byte
	ephemeral *noise.KeyPair
}

// A Conn is an encrypted stream, a net.Conn. It is safe for concurrent use,
// reading and writing do not wait for each other; only the slices of
// ReadMessage belong to one reader.
type Conn struct {
	raw       net.Conn
	initiator bool
	public    noise.PublicKey
	remote    noise.PublicKey
	hash      [64]byte

	in        input
	out       output
	keepAlive keepAlive
	datagrams atomic.Pointer[datagrams]
	keys      DatagramKeys
	secret    [32]byte // of the handshake; see noise.Result
	closed    atomic.Bool
}

var (
	_ net.Conn    = (*Conn)(nil)
	_ io.WriterTo = (*Conn)(nil)

	nsInitiator = sodium.Namespace("hyperswarm/secret-stream", 0)
	nsResponder = sodium.Namespace("hyperswarm/secret-stream", 1)
	nsSend      = sodium.Namespace("hyperswarm/secret-stream", 2)

	// Ours, for the keys that come from the handshake's secret.
	nsSecretInitiator = sodium.Namespace("warren/datagrams", 0)
	nsSecretResponder = sodium.Namespace("warren/datagrams", 1)
)

// New starts the encrypted stream over raw with the outcome of a handshake that
// took place elsewhere, and sends this side's header. It does not wait for the
// peer's. If it fails, raw is closed.
func New(raw net.Conn, res noise.Result, cfg Config) (*Conn, error) {
	c := newConn(raw, cfg)
	if err := c.start(res, cfg, nil); err != nil {
		return nil, err
	}
	return c, nil
}

func newConn(raw net.Conn, cfg Config) *Conn {
	c := &Conn{raw: raw, out: output{turn: semaphore.NewWeighted(1)}}
	c.in.init(c, cfg)
	return c
}

// start makes the stream ready after the handshake and sends the header, behind
// what the handshake has left to send.
func (c *Conn) start(res noise.Result, cfg Config, unsent []byte) error {
	c.initiator, c.hash = res.Initiator, res.Hash
	c.keys, c.secret = cfg.Datagrams, res.Secret
	c.public, c.remote = res.PublicKey, res.RemotePublicKey

	var header [sodium.StreamHeaderSize]byte
	if cfg.header != nil {
		header = *cfg.header
	} else {
		rand.Read(header[:]) // never fails
	}
	c.out.push = sodium.NewPush(&res.Tx, &header)
	c.in.key, c.in.id = res.Rx, c.streamID(!res.Initiator)

	id := c.streamID(res.Initiator)
	frame := appendPrefix(unsent, headerSize)
	frame = append(append(frame, id[:]...), header[:]...)
	if cfg.Prove {
		frame = c.out.appendProof(frame)
	}
	if _, err := c.raw.Write(frame); err != nil {
		c.raw.Close()
		return fmt.Errorf("secretstream: sending the header: %w", err)
	}
	c.SetKeepAlive(cfg.KeepAlive)
	return nil
}

// streamID is what a side sends in front of its header: it binds the stream to
// the handshake and to the role (docs/spec/secret-stream.md §8.1).
func (c *Conn) streamID(initiator bool) [idSize]byte {
	if initiator {
		return sodium.KeyedSum256(c.hash[:], nsInitiator[:])
	}
	return sodium.KeyedSum256(c.hash[:], nsResponder[:])
}

// appendPrefix appends the length of a frame; frameLength reads it.
func appendPrefix(b []byte, n int) []byte {
	return append(b, byte(n), byte(n>>8), byte(n>>16))
}

func frameLength(b []byte) int {
	return int(b[0]) | int(b[1])<<8 | int(b[2])<<16
}

// Initiator reports whether this side began the handshake.
func (c *Conn) Initiator() bool { return c.initiator }

// PublicKey returns this side's static key.
func (c *Conn) PublicKey() noise.PublicKey { return c.public }

// RemotePublicKey returns the peer's static key.
func (c *Conn) RemotePublicKey() noise.PublicKey { return c.remote }

// HandshakeHash returns the hash of the handshake, which is the same on both
// sides and different for every connection. A signature of it is bound to this
// connection. The hash is not secret: an observer of the handshake can compute it.
func (c *Conn) HandshakeHash() [64]byte { return c.hash }

// BytesRead counts what the peer's messages took on the raw stream, the lengths
// of frames included, without header and handshake.
func (c *Conn) BytesRead() uint64 { return c.in.bytes.Load() }

// BytesWritten counts what our messages took, as BytesRead does.
func (c *Conn) BytesWritten() uint64 { return c.out.bytes.Load() }

// SetMaxMessage changes [Config].MaxMessage for the messages that are read from
// now on.
func (c *Conn) SetMaxMessage(n int) { c.in.setMaxMessage(n) }

// NetConn returns the raw stream. Reading from it or writing to it breaks the
// encrypted one.
func (c *Conn) NetConn() net.Conn { return c.raw }

// LocalAddr returns the raw stream's local address.
func (c *Conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr returns the raw stream's remote address.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// SetDeadline sets both deadlines; see [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error {
	c.in.setDeadline(t)
	return c.raw.SetDeadline(t)
}

// SetReadDeadline sets the deadline of reading. A read that has failed by it
// can be repeated; nothing is lost.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(t)
	return c.raw.SetReadDeadline(t)
}

// SetWriteDeadline sets the deadline of writing. A write that has failed by it
// tells how much of its input is on its way; the next write continues there.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.raw.SetWriteDeadline(t) }

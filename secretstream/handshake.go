package secretstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/warren-dht/warren/noise"
)

// DefaultHandshakeTimeout bounds the handshakes of Client and Server unless
// [Config] says otherwise. The reference waits for ever.
const DefaultHandshakeTimeout = 15 * time.Second

// maxHandshakeFrame holds the longest message with a payload in clear, which
// is tolerated and dropped. The handshake's own messages have up to 96 bytes.
const maxHandshakeFrame = noise.MaxCiphertext

// Client shakes hands over raw as the initiator and starts the stream. It waits
// for the peer, at most until ctx ends or Config.HandshakeTimeout is over. If
// it fails, raw is closed.
func Client(ctx context.Context, raw net.Conn, cfg Config) (*Conn, error) {
	return shake(ctx, raw, cfg, true)
}

// Server shakes hands over raw as the responder and starts the stream; see
// [Client].
func Server(ctx context.Context, raw net.Conn, cfg Config) (*Conn, error) {
	return shake(ctx, raw, cfg, false)
}

func shake(ctx context.Context, raw net.Conn, cfg Config, initiator bool) (*Conn, error) {
	timeout := cfg.HandshakeTimeout
	if timeout == 0 {
		timeout = DefaultHandshakeTimeout
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	// Closing raw ends the waiting; there is no way back from there.
	c := newConn(raw, cfg)
	stop := context.AfterFunc(ctx, func() { c.Destroy(context.Cause(ctx)) })
	err := c.handshake(cfg, initiator)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		c.Destroy(err)
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	return c, nil
}

var errWrongPeer = errors.New("the peer has another key than expected")

func (c *Conn) handshake(cfg Config, initiator bool) error {
	static := cfg.Static
	if static == nil {
		static = noise.GenerateKeyPair()
	}
	hs, err := noise.Initialize(noise.Config{
		Pattern:      cfg.Pattern,
		Initiator:    initiator,
		Static:       static,
		RemoteStatic: cfg.RemotePublicKey,
		Ephemeral:    cfg.ephemeral,
	})
	if err != nil {
		return err
	}
	var unsent []byte // the last message goes out together with the header
	for writing := initiator; !hs.Finished(); writing = !writing {
		if !writing {
			off, n, err := c.in.frame(0, maxHandshakeFrame)
			if err != nil {
				return err
			}
			// The payload is nobody's.
			if _, err := hs.ReadMessage(nil, c.in.buf.b[off:off+n]); err != nil {
				return err
			}
			remote, known := hs.RemoteStatic()
			if known && cfg.RemotePublicKey != (noise.PublicKey{}) && remote != cfg.RemotePublicKey {
				return errWrongPeer
			}
			continue
		}
		message, err := hs.WriteMessage(make([]byte, prefixSize), nil)
		if err != nil {
			return err
		}
		appendPrefix(message[:0], len(message)-prefixSize)
		if hs.Finished() {
			unsent = message
			break
		}
		if _, err := c.raw.Write(message); err != nil {
			return err
		}
	}
	res, err := hs.Split()
	if err != nil {
		return err
	}
	return c.start(res, cfg, unsent)
}

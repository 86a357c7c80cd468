package hyperdht

import (
	"context"

	"github.com/warren-dht/warren/secretstream"
	"github.com/warren-dht/warren/udx"
)

// A Conn is an encrypted stream to a peer: a [net.Conn] with the manners of
// TCP, half-close included, and the peer's proven key. Its other methods are
// those of [secretstream.Conn]: messages with their boundaries, unordered
// datagrams, the handshake hash. Safe for concurrent use.
type Conn struct {
	*secretstream.Conn
	link *link
}

// Done is closed when the connection is over on both sides, or broken.
func (c *Conn) Done() <-chan struct{} { return c.link.raw.Done() }

// Path is the way that the connection takes now.
func (c *Conn) Path() Path {
	p, _ := c.link.current()
	return p
}

// NextPath waits until the connection takes another path than p, and returns
// it: a relayed connection becomes a direct one, or a peer has moved. It fails
// when the context or the connection ends first.
func (c *Conn) NextPath(ctx context.Context, p Path) (Path, error) {
	l := c.link
	for {
		l.mu.Lock()
		now := l.core.current.path()
		if l.moved == nil {
			l.moved = make(chan struct{})
		}
		moved := l.moved
		l.mu.Unlock()
		if now != p {
			return now, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return p, context.Cause(ctx)
		case <-l.raw.Done():
			return p, ErrClosed
		}
	}
}

// Stats are the raw stream's counters and estimates.
func (c *Conn) Stats() udx.Stats { return c.link.raw.Stats() }

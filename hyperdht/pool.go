package hyperdht

import (
	"bytes"
	"context"
	"net"
	"sync"
)

// A Pool keeps at most one connection to each peer, whoever made it. Safe for
// concurrent use.
//
// Of two connections to the same key that were made in the same role the newer
// one is kept; of one dialled and one accepted, so that both ends keep the same
// one, that which the end with the lesser key has dialled. (The reference's rule
// comes to the same where both dial at once, but depends on the order,
// docs/spec/hyperdht-connect.md §10.4.) The other is destroyed.
type Pool struct {
	node *Node
	cfg  DialConfig

	ctx    context.Context // ends with the pool
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	closed  bool
	conns   map[PublicKey]pooled
	dialing map[PublicKey]*poolDial
	fresh   chan *Conn // accepted ones, for Accept
}

type pooled struct {
	conn   *Conn
	dialed bool
}

// open reports whether the connection can be used: one that was closed stays
// until the rest of it is delivered.
func (c pooled) open() bool { return !c.conn.link.raw.Closed() }

// A poolDial is a dial under way, and who waits for it.
type poolDial struct {
	done   chan struct{}
	conn   *Conn
	err    error
	gaveUp bool // the caller who dialled did not want it any more
}

// NewPool returns an empty pool whose dials are made with cfg.
func (n *Node) NewPool(cfg DialConfig) *Pool {
	p := &Pool{
		node: n, cfg: cfg, conns: map[PublicKey]pooled{}, dialing: map[PublicKey]*poolDial{},
		fresh: make(chan *Conn, DefaultBacklog),
	}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	return p
}

// Dial returns the open connection to a peer, or makes one. Callers who dial the
// same key at the same time share one dial; if its context ends while another
// caller waits for it, that one dials.
func (p *Pool) Dial(ctx context.Context, key PublicKey) (*Conn, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, net.ErrClosed
		}
		if c, ok := p.conns[key]; ok && c.open() {
			p.mu.Unlock()
			return c.conn, nil
		}
		d, under := p.dialing[key]
		if !under {
			d = &poolDial{done: make(chan struct{})}
			p.dialing[key] = d
		}
		p.mu.Unlock()
		if !under {
			p.dial(ctx, key, d)
			return d.conn, d.err
		}
		select {
		case <-d.done:
			if !d.gaveUp {
				return d.conn, d.err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// dial makes the connection that d stands for.
func (p *Pool) dial(ctx context.Context, key PublicKey, d *poolDial) {
	dialing, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(p.ctx, func() { stop(net.ErrClosed) })()
	d.conn, d.err = p.node.DialWith(dialing, key, p.cfg)
	if d.err == nil {
		d.conn, d.err = p.add(d.conn, true)
	}
	d.gaveUp = d.err != nil && ctx.Err() != nil
	p.mu.Lock()
	delete(p.dialing, key)
	p.mu.Unlock()
	close(d.done)
}

// Accept returns the next connection that Serve has taken into the pool.
func (p *Pool) Accept(ctx context.Context) (*Conn, error) {
	select {
	case c, ok := <-p.fresh:
		if !ok {
			return nil, net.ErrClosed
		}
		return c, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Serve takes the connections of a listener into the pool, until the listener or
// the pool is closed, and returns [net.ErrClosed]. Connections that nobody
// accepts from the pool stay in it.
func (p *Pool) Serve(l *Listener) error {
	for {
		c, err := l.AcceptConn(p.ctx)
		if err != nil {
			return err
		}
		if kept, err := p.add(c, false); err != nil || kept != c {
			continue
		}
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return net.ErrClosed
		}
		select {
		case p.fresh <- c:
		default:
		}
		p.mu.Unlock()
	}
}

// Conns are the open connections.
func (p *Pool) Conns() []*Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*Conn, 0, len(p.conns))
	for _, c := range p.conns {
		if c.open() {
			out = append(out, c.conn)
		}
	}
	return out
}

// Close closes all connections of the pool, and ends its dials.
func (p *Pool) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	close(p.fresh)
	p.mu.Unlock()
	p.cancel(net.ErrClosed)
	for _, c := range p.Conns() {
		c.Close()
	}
	return nil
}

// add takes a new connection into the pool and returns the one that is kept.
func (p *Pool) add(c *Conn, dialed bool) (*Conn, error) {
	key, own := c.RemotePublicKey(), c.PublicKey()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		c.Close()
		return nil, net.ErrClosed
	}
	old, exists := p.conns[key]
	exists = exists && old.open()
	lesser := bytes.Compare(own[:], key[:]) < 0
	if exists && old.dialed != dialed && dialed != lesser {
		p.mu.Unlock()
		c.link.raw.Destroy(ErrDuplicateConnection)
		return old.conn, nil
	}
	p.conns[key] = pooled{c, dialed}
	p.mu.Unlock()
	if exists {
		old.conn.link.raw.Destroy(ErrDuplicateConnection)
	}
	c.link.atEnd(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.conns[key].conn == c {
			delete(p.conns, key)
		}
	})
	return c, nil
}

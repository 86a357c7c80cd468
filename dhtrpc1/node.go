package dhtrpc1

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warren-dht/warren/udp"
)

// A Config says what node to make. The zero value is a node on a free port that
// knows nobody.
type Config struct {
	// ID is the node's id; the zero value stands for a random one.
	ID ID
	// Ephemeral nodes answer what they are asked but never tell their id, so
	// that nobody lists them.
	Ephemeral bool
	// Bootstrap are addresses of nodes to begin with; see [ResolveAddr].
	Bootstrap []netip.AddrPort
	// Nodes are contacts to put into the table.
	Nodes []Contact
	// Handler answers the application's requests; nil answers them with the
	// closest nodes alone.
	Handler Handler

	// Network is where to bind; nil is this machine's.
	Network udp.Network
	// Host is the IPv4 address to bind; the zero Addr is 0.0.0.0. Port is the
	// port; with 0 the system chooses.
	Host netip.Addr
	Port uint16
	// Conn is a bound socket to use instead. The node reads and closes it.
	Conn udp.Conn

	// Concurrency is the number of requests in flight at most; 0 is 16.
	Concurrency int
	// Logger takes what is of interest for debugging; nil is silent.
	Logger *slog.Logger
	// Rand draws transaction ids; nil is a source seeded from crypto/rand.
	Rand rand.Source
}

// A Node is a node of a dht-rpc 1.x or 2.x network. Safe for concurrent use.
type Node struct {
	id   ID
	conn udp.Conn
	log  *slog.Logger

	inbox    chan packet
	asks     chan func(c *core, now time.Time)
	replies  chan *Request
	overflow atomic.Uint64

	ready   chan struct{} // closed after the first bootstrap
	closing chan struct{} // closed to end everything
	close   sync.Once
	gone    sync.WaitGroup
}

type packet struct {
	from    netip.AddrPort
	payload []byte
}

// Listen binds a node's socket and starts it. It begins to bootstrap at once;
// see [Node.Ready]. The error is that of the network, or wraps [ErrAddress].
func Listen(cfg Config) (*Node, error) {
	cfg.Bootstrap = slices.Clone(cfg.Bootstrap)
	for i, a := range cfg.Bootstrap {
		if cfg.Bootstrap[i] = unmapped(a); !sendable(cfg.Bootstrap[i]) {
			return nil, fmt.Errorf("%w: bootstrap %v", ErrAddress, a)
		}
	}
	host := cfg.Host.Unmap()
	switch {
	case cfg.Conn != nil:
		host = cfg.Conn.LocalAddr().Addr()
	case !host.IsValid():
		host = netip.IPv4Unspecified()
	}
	if !host.Is4() {
		return nil, fmt.Errorf("%w: socket at %v", ErrAddress, host)
	}
	if cfg.ID == (ID{}) {
		crand.Read(cfg.ID[:])
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = defaultConcurrency
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Rand == nil {
		var seed [32]byte
		crand.Read(seed[:])
		cfg.Rand = rand.NewChaCha8(seed)
	}
	if cfg.Conn == nil {
		if cfg.Network == nil {
			cfg.Network = udp.Default
		}
		var err error
		if cfg.Conn, err = cfg.Network.Listen(netip.AddrPortFrom(host, cfg.Port)); err != nil {
			return nil, fmt.Errorf("dhtrpc1: %w", err)
		}
	}
	n := &Node{
		id:      cfg.ID,
		conn:    cfg.Conn,
		log:     cfg.Logger,
		inbox:   make(chan packet, inboxSize),
		asks:    make(chan func(*core, time.Time)),
		replies: make(chan *Request, maxOpen),
		ready:   make(chan struct{}),
		closing: make(chan struct{}),
	}
	c := newCore(&cfg, time.Now())
	c.own = ownAddrs(cfg.Network, n.conn.LocalAddr())
	c.deliver = func(r *Request) { n.replies <- r } // has room for all that are open
	n.gone.Go(func() {
		udp.Serve(n.conn, n)
		n.shut() // somebody else has closed the socket
	})
	n.gone.Go(func() { n.loop(c) })
	n.gone.Go(n.firstBootstrap)
	return n, nil
}

// ownAddrs lists the addresses at which a socket receives. The network may be
// nil.
func ownAddrs(network udp.Network, local netip.AddrPort) []netip.AddrPort {
	own := []netip.AddrPort{local}
	if network == nil || !local.Addr().IsUnspecified() {
		return own
	}
	ips, _ := network.Addrs() // without them there is one address less not to relay to
	for _, ip := range ips {
		own = append(own, netip.AddrPortFrom(ip, local.Port()))
	}
	return own
}

// ID returns the node's id, which others do not see if it is ephemeral.
func (n *Node) ID() ID { return n.id }

// LocalAddr returns the address that the socket is bound to.
func (n *Node) LocalAddr() netip.AddrPort { return n.conn.LocalAddr() }

// HandleBatch takes all datagrams, since they have no mark by which they could
// be told from others: of several handlers of a socket the node must be the
// last. It implements [udp.Handler]; the node's own socket is served already.
func (n *Node) HandleBatch(_ udp.Conn, batch []udp.Datagram) []udp.Datagram {
	for _, d := range batch {
		select {
		case n.inbox <- packet{d.Peer, slices.Clone(d.Payload)}:
		default:
			n.overflow.Add(1)
		}
	}
	return batch[:0]
}

// loop owns the core. It ends when the node is closed.
func (n *Node) loop(c *core) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		c.advance(now)
		n.flush(c)
		timer.Reset(c.deadline().Sub(now))
		select {
		case p := <-n.inbox:
			n.drain(c, p)
		case f := <-n.asks:
			f(c, time.Now())
		case r := <-n.replies:
			c.settle(time.Now(), r)
		case <-timer.C:
		case <-n.closing:
			return
		}
	}
}

// flush sends what the core wants sent.
func (n *Node) flush(c *core) {
	for rest := c.out; len(rest) > 0; {
		sent, err := n.conn.WriteBatch(rest)
		if err != nil || sent == 0 {
			break // closed
		}
		rest = rest[sent:]
	}
	clear(c.out)
	c.out = c.out[:0]
}

// drain takes a datagram and those that have come meanwhile, so that their
// answers leave in one batch.
func (n *Node) drain(c *core, p packet) {
	now := time.Now()
	c.receive(now, p.from, p.payload)
	for range udp.BatchSize {
		select {
		case p := <-n.inbox:
			c.receive(now, p.from, p.payload)
		case r := <-n.replies:
			c.settle(now, r)
		default:
			return
		}
	}
}

// do runs f on the loop and waits for it. f must not wait.
func (n *Node) do(ctx context.Context, f func(c *core, now time.Time)) error {
	done := make(chan struct{})
	select {
	case n.asks <- func(c *core, now time.Time) { f(c, now); close(done) }:
		<-done // the loop runs what it has taken
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.closing:
		return ErrClosed
	}
}

// Ready waits until the first bootstrap has ended, even if nobody answered. It
// need not be waited for.
func (n *Node) Ready(ctx context.Context) error {
	select {
	case <-n.ready:
		return nil
	default:
	}
	select {
	case <-n.ready:
		return nil
	case <-n.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Contacts returns the contacts in the table, the last heard from first.
func (n *Node) Contacts() []Contact {
	var out []Contact
	n.do(context.Background(), func(c *core, _ time.Time) {
		for x := range c.table.All() {
			out = append(out, x.Contact)
		}
	})
	return out
}

// Stats returns the node's counters; after Close they are zero.
func (n *Node) Stats() Stats {
	var s Stats
	n.do(context.Background(), func(c *core, _ time.Time) {
		s = c.stats
		s.Nodes, s.InFlight = c.table.Len(), c.calls.Len()
		s.Overflow = n.overflow.Load()
		s.Received += s.Overflow
	})
	return s
}

// Close closes the socket, fails what is under way with [ErrClosed], and returns
// when the node's goroutines are gone.
func (n *Node) Close() error {
	n.shut()
	n.gone.Wait()
	return nil
}

func (n *Node) shut() {
	n.close.Do(func() {
		close(n.closing)
		n.conn.Close()
	})
}

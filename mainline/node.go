package mainline

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/warren-dht/warren/internal/call"
	"github.com/warren-dht/warren/internal/feed"
	"github.com/warren-dht/warren/internal/keep"
	"github.com/warren-dht/warren/internal/token"
	"github.com/warren-dht/warren/udp"
)

var (
	errUnexpected = errors.New("an answer to no query in flight")
	errOwnID      = errors.New("mainline: the node has our own id")
)

// A Node is a node of the BitTorrent DHT. Safe for concurrent use.
//
// Its state lies under one mutex. Three kinds of goroutine step it: the sockets'
// readers, a batch of datagrams at a time; the loop, when a deadline has come;
// and procedures, to send queries. None of them waits while it holds the mutex,
// and what a step wants to send it sends afterwards.
type Node struct {
	cfg   Config
	idLen int

	sockets  []*socket
	byFamily [2]*socket    // the first of IPv4 and of IPv6, or nil
	slots    chan struct{} // one element for each query of a procedure in flight

	ctx       context.Context // ends when the node closes
	cancel    context.CancelFunc
	wake      chan struct{} // room for one: the loop's deadline is nearer now
	ready     chan struct{} // closed when bootstrapping has ended
	resolved  chan struct{} // closed when the bootstrap list has been resolved
	goes      sync.WaitGroup
	closeOnce sync.Once

	mu          sync.Mutex // guards everything below and all sockets
	rnd         *rand.Rand
	due         time.Time // when the loop will step next
	nextExpiry  time.Time
	nextSave    time.Time
	nextRefresh time.Time
	refreshing  bool
	queryLimit  *limiter // of others; nil: none
	sendLimit   *limiter // of ours; nil: none
	peers       [2]*peers
	items       *items
	clock       *keep.Clock                        // of all that is kept
	tokens      *keep.Map[key, []holder, struct{}] // from lookups, by target
	journal     *journal                           // nil: there is no durable store
	saved       []netip.AddrPort                   // nodes known from an earlier life
	routers     [2][]netip.AddrPort                // resolved
	size        [2]sizer
	scratch     []netip.AddrPort
	subscribers map[*feed.Feed[Event]]struct{}
	stats       Stats
	isReady     bool
	readyErr    error
	closed      bool
}

// family is the index of a family in arrays of two.
func family(is6 bool) int {
	if is6 {
		return 1
	}
	return 0
}

// Listen binds the sockets, begins to answer, and bootstraps in the background;
// see [Node.Ready]. The node lives until Close.
func Listen(cfg Config) (*Node, error) {
	cfg, err := cfg.settled()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &Node{
		cfg:         cfg,
		idLen:       len(cfg.Hash(nil)),
		slots:       make(chan struct{}, cfg.Concurrency),
		ctx:         ctx,
		cancel:      cancel,
		wake:        make(chan struct{}, 1),
		ready:       make(chan struct{}),
		resolved:    make(chan struct{}),
		rnd:         rand.New(cfg.Rand),
		clock:       keep.NewClock(cfg.PeerAge, cfg.ItemAge),
		tokens:      keep.NewMap[key, []holder, struct{}](keep.Limits{Entries: maxTokens, Age: tokenAge}, nil),
		subscribers: make(map[*feed.Feed[Event]]struct{}),
	}
	if cfg.QueryRate > 0 {
		n.queryLimit = newLimiter(cfg.QueryRate, burst*cfg.QueryRate)
	}
	if cfg.SendRate > 0 {
		n.sendLimit = newLimiter(cfg.SendRate, sendBurst*cfg.SendRate)
	}
	n.makeStores()
	now := time.Now()
	for i, a := range cfg.Addrs {
		s, err := n.listen(now, i, a)
		if err != nil {
			cancel()
			for _, s := range n.sockets {
				s.conn.Close()
			}
			return nil, err
		}
		n.sockets = append(n.sockets, s)
		if f := family(s.is6); n.byFamily[f] == nil {
			n.byFamily[f] = s
		}
	}
	if err := n.restore(now); err != nil {
		cancel()
		for _, s := range n.sockets {
			s.conn.Close()
		}
		return nil, err
	}
	for _, s := range n.sockets {
		n.goes.Go(func() { n.read(s) })
	}
	n.goes.Go(n.loop)
	n.goes.Go(n.bootstrap)
	if cfg.Store != nil {
		n.goes.Go(n.commit)
	}
	return n, nil
}

func (n *Node) listen(now time.Time, i int, addr netip.AddrPort) (*socket, error) {
	conn, err := n.cfg.Network.Listen(addr)
	if err != nil {
		return nil, fmt.Errorf("mainline: %w", err)
	}
	s := &socket{
		node:       n,
		conn:       conn,
		index:      i,
		is6:        conn.LocalAddr().Addr().Is6(),
		calls:      call.NewTable[query](n.rnd, 16),
		silent:     keep.NewMap[netip.AddrPort, struct{}, struct{}](keep.Limits{Entries: maxSilent, Age: silentAge}, nil),
		nextUpkeep: now.Add(upkeepEvery),
	}
	s.tokens = token.New(tokenSize, tokenPeriod, tokenHash, func(b []byte) { randomize(b, n.rnd) })
	switch ip := conn.LocalAddr().Addr(); {
	case i == 0 && !n.cfg.ID.IsZero():
		s.id, s.fixed = n.cfg.ID.key, true
	case n.idLen == shortID && !ip.IsUnspecified() && !private(ip):
		s.id = secureID(ip, n.rnd)
	default:
		randomize(s.id[:n.idLen], n.rnd)
	}
	s.routes = newRoutes(s.id, n.clock, func(c point) {
		n.emit(Event{Kind: EventNode, ID: n.id(c.ID), Addr: c.Addr})
	})
	return s, nil
}

// read is a socket's reader.
func (n *Node) read(s *socket) {
	udp.Serve(s.conn, append([]udp.Handler{s}, n.cfg.Others...)...)
	if n.ctx.Err() == nil { // the socket ended by itself
		n.mu.Lock()
		n.emit(Event{Kind: EventError, Addr: s.conn.LocalAddr(), Err: fmt.Errorf("mainline: socket %v is gone", s.conn.LocalAddr())})
		n.mu.Unlock()
		n.cancel()
	}
}

// HandleBatch takes the datagrams that are of the DHT. It implements
// [udp.Handler] for the socket's reader.
func (s *socket) HandleBatch(conn udp.Conn, batch []udp.Datagram) (rest []udp.Datagram) {
	out := borrowOutbox()
	rest = batch[:0]
	now := time.Now()
	n := s.node
	n.mu.Lock()
	for i := range batch {
		d := &batch[i]
		if looksLike(d.Payload) {
			s.receive(now, out, d)
		} else {
			rest = append(rest, *d)
		}
	}
	n.mu.Unlock()
	out.release(conn)
	return rest
}

// loop is the owner of time: it steps whatever has a deadline.
func (n *Node) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-n.wake:
		case <-n.ctx.Done():
			return
		}
		outs := make([]*outbox, len(n.sockets))
		now := time.Now()
		n.mu.Lock()
		n.due = now.Add(expireEvery)
		for i, s := range n.sockets {
			outs[i] = borrowOutbox()
			s.advance(now, outs[i])
		}
		for _, s := range n.sockets {
			if d := s.deadline(); d.Before(n.due) {
				n.due = d
			}
		}
		n.expire(now)
		due := n.due
		n.mu.Unlock()
		for i, s := range n.sockets {
			outs[i].release(s.conn)
		}
		timer.Reset(time.Until(due))
	}
}

// wakeBy makes sure that the loop steps at t or earlier.
func (n *Node) wakeBy(t time.Time) {
	if t.Before(n.due) {
		n.due = t
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

// expire forgets what is too old.
func (n *Node) expire(now time.Time) {
	if now.Before(n.nextExpiry) {
		return
	}
	n.nextExpiry = now.Add(expireEvery)
	stored := n.clock.Now(now)
	for _, p := range n.peers {
		p.sets.Expire(stored)
	}
	n.items.kept.Expire(stored)
	n.tokens.Expire(stored)
	if n.isReady {
		n.noteNodes(now)
	}
}

// Ready waits until bootstrapping has ended, with or without success. It
// returns an error that wraps [ErrBootstrap] if the node was given bootstrap
// nodes and none of them could be resolved, the context's error, or
// [ErrClosed].
func (n *Node) Ready(ctx context.Context) error {
	if n.ctx.Err() != nil {
		return ErrClosed
	}
	select {
	case <-n.ready:
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.readyErr
	case <-ctx.Done():
		return ctx.Err()
	case <-n.ctx.Done():
		return ErrClosed
	}
}

// Close ends everything that goes on, closes the sockets, and returns when all
// goroutines are gone. Only the first call has an effect.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		n.cancel()
		for _, s := range n.sockets {
			s.conn.Close()
		}
		n.goes.Wait()
		n.mu.Lock()
		n.closed = true
		n.emit(Event{Kind: EventClose})
		n.mu.Unlock()
	})
	return nil
}

// Addr is the address that the first socket is bound to.
func (n *Node) Addr() netip.AddrPort { return n.sockets[0].conn.LocalAddr() }

// Conn returns a socket, in the order of Config.Addrs, for who shares it, or
// nil if there are not so many. It must not be read from nor closed.
func (n *Node) Conn(i int) udp.Conn {
	if i < 0 || i >= len(n.sockets) {
		return nil
	}
	return n.sockets[i].conn
}

// ID is the first socket's id. It may change once, when the node has learned
// its public address (BEP 42).
func (n *Node) ID() ID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.id(n.sockets[0].id)
}

// External is the first socket's public address, as the nodes that were asked
// see it. The port is 0 if they do not agree on it. ok is false until enough of
// them have spoken.
func (n *Node) External() (addr netip.AddrPort, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	addr = n.sockets[0].ballot.elected
	return addr, addr.IsValid()
}

func (n *Node) id(k key) ID { return ID{key: k, n: uint8(n.idLen)} }

// Stats returns the node's counters.
func (n *Node) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	st := n.stats
	st.Inflight = len(n.slots)
	for _, s := range n.sockets {
		st.Sockets = append(st.Sockets, SocketStats{ID: n.id(s.id), Nodes: s.routes.table.Len(), Calls: s.calls.Len()})
	}
	for _, p := range n.peers {
		k := p.sets.Stats()
		st.Peers += k.Entries
		st.Hashes += k.Topics
		st.Evicted += k.Evicted + k.OverQuota
	}
	k := n.items.kept.Stats()
	st.Items = k.Entries
	st.Evicted += k.Evicted + k.OverQuota
	st.Tokens = n.tokens.Len()
	return st
}

// tokenHash is bittorrent-dht's: SHA-1 over the address as text and a secret of
// 20 bytes (docs/spec/mainline.md §6).
func tokenHash(secret *[token.MaxSize]byte, ip netip.Addr) (t [token.MaxSize]byte) {
	var buf [64]byte
	b := ip.AppendTo(buf[:0])
	b = append(b, secret[:tokenSize]...)
	sum := sha1.Sum(b)
	copy(t[:], sum[:])
	return t
}

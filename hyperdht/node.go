package hyperdht

import (
	"context"
	crand "crypto/rand"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
)

// A Node is a member of a HyperDHT network: it finds and reaches peers by
// public key, listens for them, stores and forwards for others. Safe for
// concurrent use.
type Node struct {
	cfg     Config
	keyPair KeyPair
	rpc     *dhtrpc.Node
	mux     *udx.Mux
	sockets *socketPool
	records *records // guarded by the RPC node's lock
	router  *router  // guarded by the RPC node's lock

	randomPunches randomPunches
	slots         handshakeSlots
	exchanges     keyExchanges
	joins         relayJoins
	known         relayCache
	reuse         reusableRoutes
	localAddrs    localAddrs
	stats         counters
	links         links
	panics        *rate.Sometimes           // bounds what is logged of them
	changed       atomic.Pointer[time.Time] // when the host's network last did; nil: never

	ctx    context.Context // ends with the node
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // procedures

	pausing *semaphore.Weighted // held by Suspend and Resume: one after the other

	mu        sync.Mutex
	listeners map[*Listener]struct{}
	suspended bool
	dialsCtx  context.Context // ends with the node, and when it is suspended
	stopDials context.CancelCauseFunc
	closed    bool
	minding   bool          // mindPaths runs
	gone      chan struct{} // closed when everything has ended
}

// New starts a node. An error about the configuration names the field.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.settled()
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg:           cfg,
		keyPair:       *cfg.KeyPair,
		mux:           udx.NewMux(udx.Config{}),
		randomPunches: randomPunches{interval: cfg.RandomPunchInterval},
		listeners:     map[*Listener]struct{}{},
		pausing:       semaphore.NewWeighted(1),
		localAddrs:    localAddrs{turn: semaphore.NewWeighted(1)},
		panics:        seldom(),
		gone:          make(chan struct{}),
	}
	if cfg.DeferRandomPunch {
		n.randomPunches.last = time.Now()
	}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	n.dialsCtx, n.stopDials = context.WithCancelCause(n.ctx)
	var seed [32]byte
	crand.Read(seed[:])
	var known []netip.AddrPort
	n.records, known, err = newRecords(cfg.Limits, cfg.Store, rand.New(rand.NewChaCha8(seed)), cfg.Logger)
	if err != nil {
		n.cancel(ErrClosed)
		n.mux.Close()
		return nil, err
	}
	n.router = newRouter(n.records.routes)
	n.slots.init(cfg.MaxHandshakes, cfg.MaxSourceHandshakes)
	n.exchanges = newKeyExchanges()
	rpc := cfg.rpc()
	rpc.Nodes = append(slices.Clone(rpc.Nodes), known...)
	rpc.Handler = n
	rpc.Before = []udp.Handler{n.mux}
	n.sockets = &socketPool{
		network: cfg.Network, host: cfg.Host, max: cfg.MaxSockets, open: map[udp.Conn]*punchSocket{},
		before: []udp.Handler{n.mux}, after: []udp.Handler{udpHandlerFunc(n.handleRPC)},
	}
	if n.rpc, err = dhtrpc.Listen(rpc); err != nil {
		n.cancel(ErrClosed)
		n.mux.Close()
		return nil, err
	}
	n.wg.Go(func() { n.records.run(n.ctx, n.rpc) })
	n.wg.Go(n.followNetwork)
	return n, nil
}

// Bootstrapper starts a node that others can begin with: persistent at once, at
// the public IPv4 address and port that make its id. It binds that port on
// cfg.Host. Its bootstrap list is empty unless cfg names other bootstrappers.
func Bootstrapper(public netip.AddrPort, cfg Config) (*Node, error) {
	if cfg.Bootstrap == nil {
		cfg.Bootstrap = NoBootstrap
	}
	cfg.Public, cfg.Port, cfg.ExactPort, cfg.AnyPort = public, public.Port(), true, false
	cfg.Ephemeral = dhtrpc.Never
	if cfg.Firewalled == nil {
		cfg.Firewalled = new(bool)
	}
	return New(cfg)
}

// udpHandlerFunc is a function as a udp.Handler.
type udpHandlerFunc func(udp.Conn, []udp.Datagram) []udp.Datagram

func (f udpHandlerFunc) HandleBatch(c udp.Conn, b []udp.Datagram) []udp.Datagram { return f(c, b) }

// handleRPC passes datagrams of extra sockets to the RPC node.
func (n *Node) handleRPC(c udp.Conn, b []udp.Datagram) []udp.Datagram {
	return n.rpc.HandleBatch(c, b)
}

// ServeRPC serves HyperDHT's commands. It implements [dhtrpc.Handler] and is not
// for others to call.
func (n *Node) ServeRPC(req *dhtrpc.Request) bool {
	switch req.Command {
	case cmdPeerHandshake:
		n.router.handshake(req)
		return true
	case cmdPeerHolepunch:
		n.router.holepunch(req)
		return true
	}
	return n.records.serve(req)
}

// Ready waits until the node has bootstrapped.
func (n *Node) Ready(ctx context.Context) error { return n.rpc.Ready(ctx) }

// RPC is the node beneath: addresses, routing table, raw requests and queries.
func (n *Node) RPC() *dhtrpc.Node { return n.rpc }

// KeyPair is the node's default key pair.
func (n *Node) KeyPair() KeyPair { return n.keyPair }

// Events yields what happens to the node from now on, until the context or the
// node ends.
func (n *Node) Events(ctx context.Context) iter.Seq[dhtrpc.Event] { return n.rpc.Events(ctx) }

// openAddr is the address at which everybody can reach the node's server
// socket; ok is false if the node is not open, or does not know.
func (n *Node) openAddr() (netip.AddrPort, bool) { return n.rpc.RemoteAddr() }

// mayPunch reports whether a peer may make us send to an address of its own:
// unicast, and private only if we are on a private network ourselves.
func (n *Node) mayPunch(a netip.AddrPort) bool {
	self := n.rpc.PublicAddr()
	if !self.IsValid() {
		self = n.rpc.LocalAddr()
	}
	return mayReach(self, a)
}

// seldom bounds the log lines about what strangers may be able to cause again and
// again: a few at first, then one a minute.
func seldom() *rate.Sometimes { return &rate.Sometimes{First: 3, Interval: time.Minute} }

// guard runs a function of the application's. If it panics that is logged, seldom:
// what a stranger sends must neither end the process nor fill its log.
func (n *Node) guard(what string, f func()) { guard(n.panics, n.cfg.Logger, what, f) }

func guard(panics *rate.Sometimes, logger *slog.Logger, what string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			panics.Do(func() {
				logger.Error("hyperdht: the application's function panicked", "function", what, "panic", p, "stack", string(debug.Stack()))
			})
		}
	}()
	f()
}

// begin counts a procedure of a caller among the node's, until it calls
// n.wg.Done, and returns the context that it ends with. It fails if the node
// cannot make connections now.
func (n *Node) begin() (context.Context, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return nil, ErrClosed
	case n.suspended:
		return nil, ErrSuspended
	}
	n.wg.Add(1)
	return n.dialsCtx, nil
}

// kindOf says what kind of path a packet of a stream came by. To an end that is
// open everybody comes directly; else a private address on our own two sockets
// is the local network's.
func (n *Node) kindOf(conn udp.Conn, from netip.AddrPort) PathKind {
	if conn != n.rpc.ServerConn() && conn != n.rpc.ClientConn() {
		return PathPunched
	}
	if _, open := n.openAddr(); !open && isPrivate(from.Addr()) {
		return PathLAN
	}
	return PathDirect
}

// Close unannounces the node's listeners and lets connections that were closed
// already deliver what was written, both for at most a second; then it ends all
// connections and everything else, and returns when nothing is left.
func (n *Node) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return n.Shutdown(ctx)
}

// Shutdown is Close with a context that bounds how long that may take; one that
// has ended makes it a forced close.
func (n *Node) Shutdown(ctx context.Context) error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		<-n.gone
		return nil
	}
	n.closed = true
	n.stopDials(ErrClosed)
	listeners := n.listenersLocked()
	n.mu.Unlock()
	var wg sync.WaitGroup
	for _, l := range listeners {
		wg.Go(func() { l.Shutdown(ctx) })
	}
	wg.Wait()
	n.mux.Drain(ctx)
	n.cancel(ErrClosed)
	n.mux.Close()
	n.sockets.close()
	err := n.rpc.Close()
	n.wg.Wait()
	close(n.gone)
	return err
}

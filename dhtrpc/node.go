package dhtrpc

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/warren-dht/warren/internal/feed"
)

// A Node is a member of a network: it answers others' requests, keeps a routing
// table, and makes requests and queries. Safe for concurrent use, except that
// its methods must not be called from a [Handler], a filter or a function given
// to Do.
type Node struct {
	cfg Config

	life sync.Mutex // held while sockets come and go; taken before mu

	mu          sync.Mutex // guards everything below
	core        *core
	closed      bool
	timer       *time.Timer
	armed       time.Time // when the timer fires; zero: it does not run
	subscribers map[*feed.Feed[Event]]struct{}

	ctx       context.Context // ends with the node
	cancel    context.CancelFunc
	bound     context.Context // ends with the present sockets
	unbind    context.CancelFunc
	unwatch   context.CancelFunc // ends the watch of interfaces; nil: there is none
	bounded   sync.WaitGroup     // readers and procedures, which end with the sockets
	running   sync.WaitGroup     // everything else, such as the timer's function
	ready     chan struct{}      // closed when the node has bootstrapped
	gone      chan struct{}      // closed when everything has ended
	boot      resolver
	probing   *semaphore.Weighted // held by the one procedure that tests reachability
	refreshes sync.Mutex          // held by the one refresh that runs
}

// Listen binds a node's two sockets and starts it. An error about the
// configuration begins with the name of the field.
func Listen(cfg Config) (*Node, error) {
	cfg, boot, err := cfg.settled()
	if err != nil {
		return nil, err
	}
	server, client, err := bind(&cfg, 0, 0)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg:         cfg,
		core:        newCore(cfg, boot, time.Now()),
		subscribers: map[*feed.Feed[Event]]struct{}{},
		ready:       make(chan struct{}),
		gone:        make(chan struct{}),
		probing:     semaphore.NewWeighted(1),
	}
	n.core.node = n
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.boot.node = n
	n.enter()
	n.attach(server, client)
	n.spawn(n.bootstrap)
	n.leave()
	return n, nil
}

// Bootstrapper starts a node that others can begin with: persistent at once,
// without asking anybody, at the public IPv4 address and port that make its id.
// It binds that port on cfg.Host, and nothing else if it is taken.
func Bootstrapper(public netip.AddrPort, cfg Config) (*Node, error) {
	if !usable(public) {
		return nil, fmt.Errorf("dhtrpc: bootstrapper at %v: %w", public, ErrBadAddress)
	}
	cfg.Public, cfg.Port, cfg.PortEnd, cfg.ExactPort = public, public.Port(), 0, true
	cfg.Ephemeral = Never
	if cfg.Firewalled == nil {
		cfg.Firewalled = new(bool)
	}
	return Listen(cfg)
}

// enter takes the lock for a step of the core.
func (n *Node) enter() {
	n.mu.Lock()
	n.core.out = outputs.Get().(*output)
	n.core.now = time.Now()
}

// leave ends a step: it passes on what the core wants told, releases the lock,
// and sends what the core wants sent.
func (n *Node) leave() {
	c := n.core
	for _, e := range c.events {
		for s := range n.subscribers {
			tell(s, e)
		}
	}
	c.events = c.events[:0]
	for _, t := range c.wanted {
		switch t {
		case taskRefresh:
			n.spawn(n.refresh)
		case taskNetworkState:
			n.spawn(func(ctx context.Context) { n.updateNetworkState(ctx, false) })
		case taskSettle:
			n.spawn(n.settle)
		}
	}
	c.wanted = c.wanted[:0]
	after := c.after
	c.after = nil
	out := c.out
	c.out = nil
	n.arm()
	n.mu.Unlock()
	out.flush()
	for _, f := range after {
		f()
	}
}

// arm sets the timer to the core's deadline, unless it fires before that
// anyway. The lock is held.
func (n *Node) arm() {
	d, ok := n.core.deadline()
	if !ok || n.closed || !n.armed.IsZero() && !d.Before(n.armed) {
		return
	}
	if n.timer == nil || !n.timer.Stop() {
		n.running.Add(1) // for fire
	}
	n.armed = d
	if n.timer == nil {
		n.timer = time.AfterFunc(time.Until(d), n.fire)
	} else {
		n.timer.Reset(time.Until(d))
	}
}

// fire is the timer's function.
func (n *Node) fire() {
	defer n.running.Done()
	n.enter()
	defer n.leave()
	if !n.armed.After(n.core.now) {
		n.armed = time.Time{}
	} // else the timer was set again meanwhile
	if !n.closed {
		n.core.advance()
	}
}

// spawn runs a procedure, whose context ends with the present sockets. The lock
// is held.
func (n *Node) spawn(f func(context.Context)) {
	if n.closed || n.core.suspended {
		return
	}
	ctx := n.bound
	n.bounded.Go(func() { f(ctx) })
}

// Do runs f under the node's lock, as its handler runs, so that f may use the
// state that the handler uses. f must not wait and must not call the node. Do
// runs it on a closed node too.
func (n *Node) Do(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

// usable returns why nothing can be sent, nil if it can. The lock is held.
func (n *Node) usable() error {
	switch {
	case n.closed:
		return ErrClosed
	case n.core.suspended:
		return ErrSuspended
	}
	return nil
}

// Ready waits until the node has bootstrapped; if it is suspended before, until
// it was resumed and has bootstrapped then. It returns ErrClosed if the node is
// closed before, and the context's error. If Config.Bootstrap names nodes
// and not one of the names could be resolved, and no other node is known, the
// error says so; the node goes on trying.
func (n *Node) Ready(ctx context.Context) error {
	select {
	case <-n.ready:
	case <-n.ctx.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.core.bootstrapped {
		return ErrClosed
	}
	if err := n.boot.failure(); err != nil && n.core.table.Len() == 0 {
		return fmt.Errorf("dhtrpc: Config.Bootstrap: %w", err)
	}
	return nil
}

// Close ends the node: requests and queries fail with ErrClosed, sockets are
// closed. It returns when nothing of the node runs any more. It must not be
// called from a Handler.
func (n *Node) Close() error {
	n.life.Lock()
	n.mu.Lock()
	first := !n.closed
	if !first {
		n.mu.Unlock()
		n.life.Unlock()
		<-n.gone
		return nil
	}
	n.closed = true
	n.mu.Unlock()

	n.enter()
	n.shut(ErrClosed)
	n.core.emit(EventClose, netip.AddrPort{})
	if n.timer != nil && n.timer.Stop() {
		n.running.Done()
	}
	n.leave()
	n.cancel()
	n.life.Unlock()
	n.bounded.Wait()
	n.running.Wait()
	close(n.gone)
	return nil
}

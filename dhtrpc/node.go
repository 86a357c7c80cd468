package dhtrpc

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/warren-dht/warren/udp"
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
	subscribers map[*subscriber]struct{}

	ctx       context.Context // ends with the node
	cancel    context.CancelFunc
	unwatch   context.CancelFunc // ends the watch of interfaces; nil: there is none
	running   sync.WaitGroup     // readers, procedures, the timer's function
	readers   sync.WaitGroup     // of the present sockets
	ready     chan struct{}      // closed when bootstrapping has ended
	gone      chan struct{}      // closed when everything has ended
	boot      resolver
	probing   sync.Mutex // held by the one procedure that tests reachability
	refreshes sync.Mutex // held by the one refresh that runs
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
		subscribers: map[*subscriber]struct{}{},
		ready:       make(chan struct{}),
		gone:        make(chan struct{}),
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
	if !addressable(public) || public.Addr().IsUnspecified() {
		return nil, fmt.Errorf("dhtrpc: bootstrapper at %v: %w", public, ErrBadAddress)
	}
	cfg.Public, cfg.Port, cfg.PortEnd, cfg.ExactPort = public, public.Port(), 0, true
	cfg.Ephemeral = Never
	if cfg.Firewalled == nil {
		cfg.Firewalled = new(bool)
	}
	return Listen(cfg)
}

// bind opens the server and the client socket, on the ports they had before if
// they had any. docs/spec/dht-rpc.md §5.2.
func bind(cfg *Config, serverPort, clientPort uint16) (server, client udp.Conn, err error) {
	var ports []uint16
	if serverPort != 0 {
		ports = append(ports, serverPort)
	}
	for p := cfg.Port; p < cfg.PortEnd; p++ {
		ports = append(ports, p)
	}
	if cfg.ExactPort {
		ports = []uint16{cfg.Port}
	} else {
		ports = append(ports, 0)
	}
	for _, p := range ports {
		if server, err = cfg.Network.Listen(netip.AddrPortFrom(cfg.Host, p)); err == nil {
			break
		}
	}
	if err != nil {
		field := "Host"
		if cfg.ExactPort {
			field = "Port"
		}
		return nil, nil, fmt.Errorf("dhtrpc: Config.%s: %w", field, err)
	}
	if clientPort != 0 {
		client, err = cfg.Network.Listen(netip.AddrPortFrom(cfg.Host, clientPort))
	}
	if client == nil {
		client, err = cfg.Network.Listen(netip.AddrPortFrom(cfg.Host, 0))
	}
	if err != nil {
		server.Close()
		return nil, nil, fmt.Errorf("dhtrpc: Config.Host: %w", err)
	}
	return server, client, nil
}

// attach makes the node use two sockets. The lock is held.
func (n *Node) attach(server, client udp.Conn) {
	c := n.core
	c.server, c.client = server, client
	c.local = n.localAddrs()
	handlers := append(append([]udp.Handler(nil), n.cfg.Before...), n)
	for _, conn := range []udp.Conn{server, client} {
		n.running.Add(1)
		n.readers.Add(1)
		go func() {
			defer n.running.Done()
			defer n.readers.Done()
			udp.Serve(conn, handlers...)
		}()
	}
	n.watch()
	c.emit(EventListening, server.LocalAddr())
}

// localAddrs are the IPv4 addresses of this machine that reach the sockets.
func (n *Node) localAddrs() []netip.Addr {
	if !n.cfg.Host.IsUnspecified() {
		return []netip.Addr{n.cfg.Host}
	}
	addrs, err := n.cfg.Network.Addrs()
	if err != nil {
		n.cfg.Logger.Debug("dhtrpc: this machine's addresses are unknown", "error", err)
	}
	return slices.DeleteFunc(addrs, func(ip netip.Addr) bool { return !ip.Is4() })
}

// watch starts to watch this machine's interfaces, if there is somebody to be
// told: nothing else depends on it, and a watch weighs as much as the rest of
// an idle node. The lock is held.
func (n *Node) watch() {
	if n.unwatch != nil || n.closed || n.core.suspended || len(n.subscribers) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(n.ctx)
	n.unwatch = cancel
	changes := n.cfg.Network.Watch(ctx)
	n.running.Add(1)
	go func() {
		defer n.running.Done()
		for range changes {
			n.enter()
			if ctx.Err() == nil {
				n.core.emit(EventNetworkChange, netip.AddrPort{})
				n.core.emit(EventNetworkUpdate, netip.AddrPort{})
			}
			n.leave()
		}
	}()
}

// stopWatch ends the watch of interfaces. The lock is held.
func (n *Node) stopWatch() {
	if n.unwatch != nil {
		n.unwatch()
		n.unwatch = nil
	}
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
			s.put(e)
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

// spawn runs a procedure until it ends or the node closes. The lock is held.
func (n *Node) spawn(f func(context.Context)) {
	if n.closed {
		return
	}
	n.running.Add(1)
	go func() {
		defer n.running.Done()
		f(n.ctx)
	}()
}

// HandleBatch implements [udp.Handler], so that a node can be served on sockets
// of others too, such as those of a hole punch: replies arriving there are
// matched with its requests, and requests are answered there, without an id. It
// claims datagrams of two bytes or more that begin as a request or a reply.
func (n *Node) HandleBatch(conn udp.Conn, batch []udp.Datagram) []udp.Datagram {
	rest := batch[:0]
	locked := false
	for i := range batch {
		p := batch[i].Payload
		if len(p) < 2 || p[0] != requestByte && p[0] != replyByte {
			rest = append(rest, batch[i])
			continue
		}
		if !locked {
			locked = true
			n.enter()
		}
		if !n.closed {
			n.core.receive(conn, &batch[i])
		}
	}
	if locked {
		n.leave()
	}
	return rest
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

// Ready waits until the node has bootstrapped. It returns ErrClosed if the node
// is closed before, and the context's error.
func (n *Node) Ready(ctx context.Context) error {
	select {
	case <-n.ready:
		n.mu.Lock()
		defer n.mu.Unlock()
		if !n.core.bootstrapped {
			return ErrClosed
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
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
	n.running.Wait()
	close(n.gone)
	return nil
}

// shut fails all requests and closes the sockets. The lock is held.
func (n *Node) shut(err error) {
	c := n.core
	was := c.suspended
	c.suspended = true
	for q := range c.queries {
		q.stopLocked(err)
	}
	c.cancelAll(err)
	c.delayed.clear()
	if was {
		return
	}
	n.stopWatch()
	c.server.Close()
	c.client.Close()
}

// Suspend stops the node for a while, as when a phone's application goes to the
// background: requests fail with ErrSuspended, sockets are closed, nothing runs.
// A second call does nothing.
func (n *Node) Suspend() error {
	n.life.Lock()
	defer n.life.Unlock()
	n.enter()
	switch {
	case n.closed:
		n.leave()
		return ErrClosed
	case n.core.suspended:
		n.leave()
		return nil
	}
	n.shut(ErrSuspended)
	n.core.emit(EventSuspend, netip.AddrPort{})
	n.leave()
	n.readers.Wait()
	return nil
}

// Resume ends a suspension: it binds the sockets again, on their old ports if
// they are free, and refreshes the routing table. If that fails the node is
// still suspended, and Resume can be called again.
func (n *Node) Resume() error {
	n.life.Lock()
	defer n.life.Unlock()
	n.mu.Lock()
	c := n.core
	if n.closed || !c.suspended {
		defer n.mu.Unlock()
		return n.usable()
	}
	serverPort, clientPort := c.server.LocalAddr().Port(), c.client.LocalAddr().Port()
	n.mu.Unlock()
	server, client, err := bind(&n.cfg, serverPort, clientPort)
	if err != nil {
		return err
	}
	n.enter()
	defer n.leave()
	c.suspended = false
	c.window.since = c.now
	n.attach(server, client)
	c.wakeup()
	c.ticked, c.nextAt = c.now.Round(0), c.now.Add(tickTime)
	if server.LocalAddr().Port() != serverPort { // our public address is another one, too
		c.unsettle()
		c.want(taskSettle)
	} else {
		c.want(taskRefresh)
	}
	c.emit(EventResume, netip.AddrPort{})
	return nil
}

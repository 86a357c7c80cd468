package dhtrpc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// resolveAge is how long the address of a bootstrap node's name is kept, and
// resolveFailure how long it is not asked for again after it was not found. The
// reference asks the system's resolver for each query.
const (
	resolveAge     = 5 * time.Minute
	resolveFailure = 10 * time.Second
)

// A resolver finds the addresses of the bootstrap nodes. Safe for concurrent
// use.
type resolver struct {
	node *Node

	mu    sync.Mutex
	found map[string]resolved
	err   error // why not one was found the last time; nil if some were
}

type resolved struct {
	ip  netip.Addr // invalid: not found
	err error
	at  time.Time
}

// all returns the addresses of the bootstrap nodes that can be found, asking
// for them all at once; those that can be found within a second if others are
// known, so that a network that knows itself does not depend on a name service.
func (r *resolver) all(ctx context.Context, othersKnown bool) []netip.AddrPort {
	if othersKnown {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, requestTimeout)
		defer cancel()
	}
	nodes := r.node.core.boot // never changes
	addrs, errs := make([]netip.AddrPort, len(nodes)), make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, b := range nodes {
		if ip, err := netip.ParseAddr(b.host); err == nil && !b.suggested.IsValid() {
			addrs[i] = netip.AddrPortFrom(ip, b.port)
			continue
		}
		wg.Go(func() { addrs[i], errs[i] = r.one(ctx, b) })
	}
	wg.Wait()
	out := addrs[:0]
	for _, a := range addrs {
		if addressable(a) {
			out = append(out, a)
		}
	}
	if ctx.Err() == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.err = nil; len(out) == 0 {
			r.err = errors.Join(errs...)
		}
	}
	return out
}

// waits reports whether all may have to wait for an answer.
func (r *resolver) waits() bool {
	for _, b := range r.node.core.boot {
		if _, err := netip.ParseAddr(b.host); err == nil && !b.suggested.IsValid() {
			continue
		}
		if _, known := r.remembered(b); !known {
			return true
		}
	}
	return false
}

// failure returns why not one bootstrap node could be found the last time.
func (r *resolver) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// one finds the address of a bootstrap node: the suggested one if it answers a
// ping, else what its name resolves to (docs/spec/dht-rpc.md §8.2).
func (r *resolver) one(ctx context.Context, b bootstrapNode) (netip.AddrPort, error) {
	f, known := r.remembered(b)
	if !known {
		f.ip, f.err = r.ask(ctx, b)
		if f.at = time.Now(); ctx.Err() != nil {
			return netip.AddrPort{}, ctx.Err()
		}
		r.mu.Lock()
		if r.found == nil {
			r.found = map[string]resolved{}
		}
		r.found[b.key()] = f
		r.mu.Unlock()
	}
	return netip.AddrPortFrom(f.ip, b.port), f.err
}

// remembered returns what was found out about a bootstrap node not long ago.
func (r *resolver) remembered(b bootstrapNode) (f resolved, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok = r.found[b.key()]
	age := resolveAge
	if f.err != nil {
		age = resolveFailure
	}
	return f, ok && time.Since(f.at) < age
}

func (b *bootstrapNode) key() string { return b.suggested.String() + "@" + b.host }

func (r *resolver) ask(ctx context.Context, b bootstrapNode) (netip.Addr, error) {
	if b.suggested.IsValid() {
		if _, err := r.node.Ping(ctx, netip.AddrPortFrom(b.suggested, b.port)); err == nil {
			return b.suggested, nil
		}
	}
	if ip, err := netip.ParseAddr(b.host); err == nil {
		return ip, nil
	}
	ips, err := r.node.cfg.Resolve(ctx, b.host)
	if err != nil {
		if ctx.Err() != nil {
			return netip.Addr{}, err
		}
		r.node.cfg.Logger.Warn("dhtrpc: bootstrap node's name does not resolve", "host", b.host, "error", err)
		return netip.Addr{}, fmt.Errorf("%s: %w", b.host, err)
	}
	for _, ip := range ips {
		if ip = ip.Unmap(); ip.Is4() {
			return ip, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s: no IPv4 address", b.host)
}

// bootstrap is the procedure of a node's first seconds. If the node is closed or
// suspended meanwhile nothing comes of it; Resume begins it again.
func (n *Node) bootstrap(ctx context.Context) {
	n.settle(ctx)
	n.enter()
	defer n.leave()
	if c := n.core; ctx.Err() == nil && !c.unsettled && !c.bootstrapped {
		c.bootstrapped = true
		c.emit(EventReady, netip.AddrPort{})
		close(n.ready)
	}
}

// settle finds our neighbours, and if need be our own address. The node stays
// unsettled if its sockets go meanwhile.
func (n *Node) settle(ctx context.Context) {
	n.findHome(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	if ctx.Err() == nil {
		n.core.unsettled = false
	}
}

// findHome is the walks and the tests of settle. docs/spec/dht-rpc.md §8.1.
func (n *Node) findHome(ctx context.Context) {
	try := n.cfg.Ephemeral == Never
	for range 2 {
		reachable := n.walkHome(ctx)
		if !reachable && !try || !n.updateNetworkState(ctx, !try) {
			return
		}
	}
}

// walkHome looks for the nodes around our place in the table. On the way it
// lets the first node that answers ping our server socket, and reports whether
// that arrived.
func (n *Node) walkHome(ctx context.Context) (reachable bool) {
	q := n.findNode(n.TableID(), QueryOptions{background: true})
	if n.cfg.Ephemeral == Never || n.cfg.NoQuickFirewall || !n.Firewalled() {
		q.Run(ctx)
		return false
	}
	pong := make(chan bool, 1)
	asked := false
	patience := time.Duration(0)
	for r, err := range q.Replies(ctx) {
		if err != nil || asked {
			continue
		}
		asked = true
		patience = min(max(4*r.RTT, 50*time.Millisecond), requestTimeout)
		n.running.Go(func() {
			_, err := n.PingNAT(ctx, r.From, n.ServerConn().LocalAddr().Port())
			pong <- err == nil
		})
	}
	if !asked {
		return false
	}
	// The reference asks only whether the pong is there when the walk ends,
	// which on a small network comes down to luck.
	select {
	case ok := <-pong:
		return ok
	case <-time.After(patience):
	case <-ctx.Done():
	}
	return false
}

// refresh looks for nodes near a place that the table knows, to hear of new
// ones. One runs at a time.
func (n *Node) refresh(ctx context.Context) {
	if !n.refreshes.TryLock() {
		return
	}
	defer n.refreshes.Unlock()
	target := read(n, (*core).refreshTarget)
	n.findNode(target, QueryOptions{background: true}).Run(ctx)
}

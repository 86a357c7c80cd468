package mainline

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Tuning of ours.
const (
	resolveTimeout = 10 * time.Second
	retryFirst     = 15 * time.Second // after a bootstrap that found nobody
	retryMost      = 5 * time.Minute
	nearBytes      = 12 // of our own id that a bootstrap's target shares
	fillTimeout    = 10 * time.Second
	fillAtOnce     = 4
)

// bootstrap finds the first nodes and fills the tables, each socket's around its
// own id. It asks get_peers, as libtorrent does, for an info-hash near our id:
// anacrolix/dht answers a find_node with nodes near nothing in particular
// (docs/spec/mainline.md §5.2).
func (n *Node) bootstrap() {
	err := n.resolve()
	close(n.resolved)
	n.walkHome(n.sockets...)
	ctx, cancel := context.WithTimeout(n.ctx, fillTimeout)
	n.fill(ctx, n.sockets...)
	cancel()
	n.mu.Lock()
	known := 0
	for _, s := range n.sockets {
		known += s.routes.table.Len()
	}
	if known == 0 {
		n.readyErr = err
	}
	n.isReady = true
	n.emit(Event{Kind: EventReady, Err: n.readyErr})
	n.mu.Unlock()
	close(n.ready)
}

// walkHome walks to each given socket's own id. A table of IPv6 that is empty is begun
// with what the nodes of IPv4 know (BEP 32).
func (n *Node) walkHome(sockets ...*socket) {
	var all sync.WaitGroup
	for _, s := range sockets {
		n.mu.Lock()
		target := s.id
		randomize(target[nearBytes:n.idLen], n.rnd)
		other := n.byFamily[1-family(s.is6)]
		helps := other != nil && s == n.byFamily[family(s.is6)]
		n.mu.Unlock()
		both := []*socket{s}
		if helps {
			both = append(both, other)
		}
		all.Go(func() {
			w := n.newWalk(request{method: methodGetPeers, target: target, want4: helps, want6: helps}, both)
			w.upkeep = true
			w.run(n.ctx)
			n.finished(w)
		})
	}
	all.Wait()
}

// fill looks up an id in each bucket between us and our nearest neighbours that
// has room, as a node does that joins (Kademlia, §2.3): a walk home alone meets
// only nodes of our own corner. What it does not finish in time is left to
// maintain.
func (n *Node) fill(ctx context.Context, sockets ...*socket) {
	var all errgroup.Group
	all.SetLimit(fillAtOnce)
	for _, s := range sockets {
		n.mu.Lock()
		buckets := s.routes.roomy()
		n.mu.Unlock()
		for _, i := range buckets {
			if ctx.Err() != nil {
				break
			}
			all.Go(func() error { return n.refresh(ctx, s, i) })
		}
	}
	all.Wait()
}

// refresh looks up a random id of a bucket.
func (n *Node) refresh(ctx context.Context, s *socket, bucket int) error {
	n.mu.Lock()
	target := s.randomIn(bucket)
	s.routes.changed[bucket] = time.Now()
	n.mu.Unlock()
	w := n.newWalk(request{method: methodGetPeers, target: target}, []*socket{s})
	w.noSeeds, w.upkeep = true, true
	err := w.run(ctx)
	n.finished(w)
	return err
}

// resolve looks up the names of the bootstrap list. The error says that it was
// not empty, and came to nothing.
func (n *Node) resolve() error {
	type result struct {
		addrs []netip.AddrPort
		err   error
	}
	list := n.cfg.Bootstrap
	results := make([]result, len(list))
	var all sync.WaitGroup
	for i, s := range list {
		host, port, _ := splitHostPort(s)
		if ip, err := netip.ParseAddr(host); err == nil {
			results[i].addrs = []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), port)}
			continue
		}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(n.ctx, resolveTimeout)
			defer cancel()
			ips, err := n.cfg.Resolve(ctx, host)
			if err == nil && len(ips) == 0 {
				err = errors.New("no addresses")
			}
			if err != nil {
				results[i].err = fmt.Errorf("%s: %w", s, err)
			}
			for _, ip := range ips {
				results[i].addrs = append(results[i].addrs, netip.AddrPortFrom(ip.Unmap(), port))
			}
		})
	}
	all.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	var routers [2][]netip.AddrPort
	var errs []error
	for _, r := range results {
		if r.err != nil {
			errs = append(errs, r.err)
			n.warn(r.err, netip.AddrPort{})
		}
		for _, a := range r.addrs {
			if f := family(a.Addr().Is6()); usable(a) {
				routers[f] = append(routers[f], a)
			}
		}
	}
	if len(routers[0])+len(routers[1]) > 0 || len(list) == 0 {
		n.routers = routers
		return nil
	}
	return fmt.Errorf("%w: %w", ErrBootstrap, errors.Join(errs...))
}

// maintain begins a procedure where the socket's table needs one: it bootstraps
// again if the table is empty, and looks up an id in a bucket that has not
// changed for long. One runs at a time. The caller holds the mutex.
func (n *Node) maintain(now time.Time, s *socket) {
	if n.refreshing || !n.isReady || now.Before(n.nextRefresh) || n.ctx.Err() != nil {
		return
	}
	if s.routes.table.Len() == 0 {
		if len(n.cfg.Bootstrap) == 0 && len(n.saved) == 0 || now.Before(s.nextHome) {
			return
		}
		s.retry = min(max(2*s.retry, retryFirst), retryMost)
		s.nextHome = now.Add(s.retry)
		n.background(now, refreshPause, func() {
			if len(n.cfg.Bootstrap) > 0 {
				n.resolve()
			}
			n.walkHome(s)
			n.fill(n.ctx, s)
		})
		return
	}
	s.retry = 0
	bucket, ok := s.routes.stale(now, n.cfg.BucketAge)
	if !ok {
		return
	}
	n.background(now, refreshPause, func() { n.refresh(n.ctx, s, bucket) })
}

// background runs a procedure of upkeep, and none other before the pause ends.
func (n *Node) background(now time.Time, pause time.Duration, run func()) {
	n.refreshing = true
	n.nextRefresh = now.Add(pause)
	n.goes.Go(func() {
		run()
		n.mu.Lock()
		n.refreshing = false
		n.mu.Unlock()
	})
}

// rebased walks home again: the socket has taken another id.
func (n *Node) rebased(now time.Time, s *socket) {
	if n.isReady && !n.refreshing {
		n.background(now, refreshPause, func() { n.walkHome(s) })
	}
}

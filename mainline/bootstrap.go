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
	resolveGrace   = time.Second      // for names that are slower than the first
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
	defer n.mu.Unlock()
	if n.ctx.Err() != nil {
		return // closed on the way
	}
	known := 0
	for _, s := range n.sockets {
		known += s.routes.table.Len()
	}
	if known == 0 {
		n.readyErr = err
	}
	n.isReady = true
	n.emit(Event{Kind: EventReady, Err: n.readyErr})
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

// resolve looks up the names of the bootstrap list. It does not wait long for
// slow ones once others are known; those are added when they come. The error
// says that the list was not empty, and came to nothing.
func (n *Node) resolve() error {
	list := n.cfg.Bootstrap
	done := make(chan error, len(list))
	var routers [2][]netip.AddrPort // guarded by the node's mutex
	add := func(name string, port uint16, ips []netip.Addr, err error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		some := false
		for _, ip := range ips {
			if a := netip.AddrPortFrom(ip.Unmap(), port); usable(a) {
				f := family(a.Addr().Is6())
				routers[f], some = append(routers[f], a), true
			}
		}
		switch {
		case some:
			n.routers, err = routers, nil
		case err == nil:
			err = errors.New("no address to ask")
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
			n.warn(err, netip.AddrPort{})
		}
		done <- err
	}
	for _, name := range list {
		host, port, _ := splitHostPort(name)
		if ip, err := netip.ParseAddr(host); err == nil {
			add(name, port, []netip.Addr{ip}, nil)
			continue
		}
		n.goes.Go(func() {
			ctx, cancel := context.WithTimeout(n.ctx, resolveTimeout)
			defer cancel()
			ips, err := n.cfg.Resolve(ctx, host)
			add(name, port, ips, err)
		})
	}
	var errs []error
	var enough <-chan time.Time
	for range list {
		select {
		case err := <-done:
			if err != nil {
				errs = append(errs, err)
			} else if enough == nil {
				enough = time.After(resolveGrace)
			}
		case <-enough:
			return nil
		}
	}
	if enough == nil && len(list) > 0 {
		return fmt.Errorf("%w: %w", ErrBootstrap, errors.Join(errs...))
	}
	return nil
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

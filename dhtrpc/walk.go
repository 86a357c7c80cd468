package dhtrpc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/kad"
)

const (
	// cautiousConcurrency is the concurrency of a query that was given nodes to
	// start from, until some of them have answered, and of one that is expected
	// to end early.
	cautiousConcurrency = 3
	// cautiousTime is how long the latter waits for an answer.
	cautiousTime = 100 * time.Millisecond
)

// walk is the procedure of a query. Visits are stepped by whoever takes the
// replies, under the node's lock, so it only wakes for the reader and the end.
func (q *Query) walk(ctx context.Context, streaming bool, yield func(Reply, error) bool) {
	n := q.node
	if err := q.begin(ctx, streaming); err != nil {
		yield(Reply{}, fmt.Errorf("dhtrpc: query: %w", err))
		return
	}
	defer q.finish()
	stop := context.AfterFunc(ctx, func() { q.stop(context.Cause(ctx)) })
	defer stop()
	q.seedBootstrap()
	var spare []Reply
	for {
		n.enter()
		q.step()
		batch, err := q.buffer, q.err
		q.buffer = spare[:0]
		if len(batch) > 0 && !q.mayEnd(batch) {
			q.step() // there is room for replies again
		}
		done := err == nil && len(batch) == 0 && q.lookup.Done()
		if done && q.moreSeeds() {
			done = false
			n.leave()
			q.seedBootstrap()
			continue
		}
		n.leave()
		for _, r := range batch {
			if q.ended(&err) {
				break
			}
			if !yield(r, nil) {
				return
			}
		}
		clear(batch)
		spare = batch
		switch {
		case err != nil:
			yield(Reply{}, fmt.Errorf("dhtrpc: query: %w", err))
			return
		case done:
			if err := q.commit(); err != nil {
				yield(Reply{}, err)
			}
			return
		case len(batch) == 0:
			<-q.wake
		}
	}
}

// ended tells whether the query has been stopped meanwhile, and why.
func (q *Query) ended(err *error) bool {
	q.node.mu.Lock()
	defer q.node.mu.Unlock()
	*err = q.err
	return q.err != nil
}

// begin makes the lookup and offers it the first contacts.
func (q *Query) begin(ctx context.Context, streaming bool) error {
	n := q.node
	n.enter()
	defer n.leave()
	switch {
	case q.started:
		return errors.New("it has run already")
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	if err := q.o.Session.usableBy(n); err != nil {
		return err
	}
	if err := n.usable(); err != nil {
		return err
	}
	q.started, q.streaming = true, streaming
	q.ctx, q.cancel = context.WithCancelCause(ctx)
	q.full = q.o.Concurrency
	if q.full <= 0 {
		q.full = n.cfg.Concurrency
	}
	q.low = q.full
	if q.o.background {
		q.low = min(q.full, max(2, q.full/backgroundConcurrency))
	}
	switch q.retries = q.o.Retries; {
	case q.retries == 0:
		q.retries = queryRetries
	case q.retries < 0:
		q.retries = 0
	}
	c := n.core
	q.lookup = kad.NewLookup(*q.m.Target, K, q.low)
	q.lookup.LimitSubnets(finite(n.cfg.Limits.PerQuery))
	q.replies = make(map[ID]*Reply, K)
	for _, a := range q.o.Nodes {
		if addressable(a) {
			q.lookup.Offer(contactOf(a), netip.AddrPort{})
		}
	}
	for i := range q.o.Replies {
		if a := q.o.Replies[i].From; addressable(a) {
			q.lookup.Offer(contactOf(a), netip.AddrPort{})
		}
	}
	if q.o.OnlyClosest {
		q.fromTable = true
	} else if q.lookup.Waiting() < K {
		q.seedTable()
	} else {
		q.lookup.SetAlpha(min(q.low, cautiousConcurrency))
	}
	if q.o.EndsEarly {
		q.lookup.SetAlpha(min(q.low, cautiousConcurrency))
		q.hurry = time.AfterFunc(cautiousTime, q.hurryUp)
	}
	q.began = c.now
	c.stats.Queries.Total++
	c.refresh = refreshTicks
	if s := q.o.Session; s != nil {
		s.queries = append(s.queries, q)
	}
	c.queries[q] = struct{}{}
	return nil
}

// hurryUp ends the caution of a query that was expected to end early.
func (q *Query) hurryUp() {
	q.node.enter()
	defer q.node.leave()
	if q.err == nil {
		q.lookup.SetAlpha(q.low)
		q.step()
	}
}

// seedTable offers the closest nodes of the routing table. The lock is held.
func (q *Query) seedTable() {
	q.fromTable = true
	q.offerTable(max(K-q.lookup.Waiting(), 0))
	q.lookup.SetAlpha(q.low)
}

// offerTable offers so many of the nodes of the routing table, the closest ones.
// The lock is held.
func (q *Query) offerTable(want int) {
	c := q.node.core
	most := want
	if c.silent.Len() > 0 {
		most = c.table.Len() // some of the nearest may have to be left out
	}
	c.near = c.table.Closest(c.near[:0], *q.m.Target, most)
	for _, n := range c.near {
		if want == 0 {
			break
		}
		if q.propose(n.Contact, netip.AddrPort{}) {
			want--
		}
	}
}

// moreSeeds falls back on the routing table if the nodes given to start from
// led nowhere, on more of it if one network has more than its share among the
// closest, on bootstrap nodes that were not waited for if nobody has answered, and
// on silent nodes if hardly anybody else has. It reports whether there is something to
// fall back on. The lock is held.
func (q *Query) moreSeeds() bool {
	if q.hurried && q.lookup.Answers == 0 {
		q.hurried = false
		return true
	}
	if !q.fromTable && q.lookup.Answers < K/4 {
		q.seedTable()
		return true
	}
	if q.fromTable && !q.o.OnlyClosest && !q.widened && q.lookup.Crowded() {
		q.widened = true
		if q.offerTable(4 * K); !q.lookup.Done() {
			return true
		}
	}
	if len(q.lookup.Closest()) >= K/4 || len(q.leftOut) == 0 {
		return false
	}
	for _, n := range q.leftOut { // it may have been us
		q.lookup.Offer(n, netip.AddrPort{})
	}
	q.leftOut = nil
	return true
}

// seedBootstrap offers the bootstrap nodes if too few contacts are known. If it
// takes time to find them, those contacts are asked meanwhile.
func (q *Query) seedBootstrap() {
	n := q.node
	n.enter()
	known := q.lookup.Waiting()
	few := len(n.core.boot) > 0 && !q.o.OnlyClosest && known < K
	if few && known > 0 && n.boot.waits() {
		q.hurried = true
		q.step()
	}
	n.leave()
	if !few {
		return
	}
	addrs := n.boot.all(q.ctx, known > 0)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		if !n.core.isOwn(a) {
			q.lookup.Offer(contactOf(a), netip.AddrPort{})
		}
	}
}

// stop ends the walk.
func (q *Query) stop(err error) {
	q.node.enter()
	defer q.node.leave()
	q.stopLocked(err)
}

func (q *Query) stopLocked(err error) {
	if q.err == nil {
		q.err = err
		q.node.core.cancel(&q.visits, err)
		q.cancel(err)
	}
	q.signal()
}

func (q *Query) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// finish cancels what is still under way.
func (q *Query) finish() {
	n := q.node
	n.enter()
	defer n.leave()
	if q.hurry != nil {
		q.hurry.Stop()
	}
	q.collect()
	q.lookup.Stop()
	if q.err == nil {
		q.err = errQueryOver
	}
	q.cancel(errQueryOver)
	q.suspectLate()
	n.core.cancel(&q.visits, errQueryOver)
	delete(n.core.queries, q)
	q.buffer, q.replies = nil, nil
	if s := q.o.Session; s != nil {
		s.remove(q)
	}
}

var errQueryOver = errors.New("dhtrpc: query has ended")

// collect makes the closest replies out of the lookup's result. The lock is
// held.
func (q *Query) collect() {
	if q.closest != nil {
		return
	}
	q.closest = make([]Reply, 0, K)
	for _, c := range q.lookup.Closest() {
		if r := q.replies[c.ID]; r != nil {
			q.closest = append(q.closest, *r)
		}
	}
}

package dhtrpc

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"

	"github.com/warren-dht/warren/kad"
)

// bufferedReplies is how many replies wait for a slow reader before the query
// stops asking (docs/spec/dht-rpc.md §7.5).
const bufferedReplies = 16

// cautiousConcurrency is the concurrency of a query that was given nodes to
// start from, until some of them have answered.
const cautiousConcurrency = 3

// QueryOptions change how a query walks. The zero value is good.
type QueryOptions struct {
	// Commit sends the query's command and value again to the at most 20
	// closest nodes, each with the token that it gave, when the walk ends.
	Commit bool
	// CommitFunc, if not nil, is called instead for each of the closest
	// replies, all at once. The query succeeds if one call does.
	CommitFunc func(context.Context, Reply) error

	// Nodes are where the walk starts; Replies are those of an earlier query,
	// for the same purpose. Fewer than 20 are completed from the routing table.
	Nodes   []netip.AddrPort
	Replies []Reply
	// OnlyClosest asks Nodes and Replies and nobody else.
	OnlyClosest bool

	// Concurrency is the number of requests under way; Config.Concurrency.
	Concurrency int
	// Retries is the number of transmissions to a node after the first; 5.
	// Negative: none.
	Retries int
	// Session, if not nil, cancels the query when it is closed.
	Session *Session

	background bool // for upkeep: with few requests
}

// A Query is a walk towards a target: it asks the nodes it knows closest to it,
// then those that they name, until the 20 closest have answered. Every node
// asked receives the query's command and value and answers for itself. A query
// does nothing before it is run, and runs once: with Replies or with Run.
//
// Ephemeral nodes' replies are yielded like all others, but only persistent
// nodes count among the closest. docs/spec/dht-rpc.md §7.
type Query struct {
	node *Node
	m    Message
	o    QueryOptions

	// Guarded by the node's mutex.
	started   bool
	err       error // why it cannot go on
	lookup    *kad.Lookup[ID]
	visits    requests
	replies   map[ID]*Reply // of the closest
	buffer    []Reply       // for the reader, who may be slow
	streaming bool          // there is a reader
	fromTable bool          // the routing table's nodes were offered
	wake      chan struct{} // room for one; something changed for the procedure
	closest   []Reply       // when the walk has ended
	retries   int
	full      int // concurrency at best
	low       int // and in the background
}

// Query returns a query that asks for a command of the application. Its target
// must not be nil; its token is not sent.
func (n *Node) Query(m Message, o QueryOptions) *Query {
	if m.Target == nil {
		panic("dhtrpc: query without a target")
	}
	m.Token = nil
	return n.newQuery(m, o)
}

// FindNode returns a query for the nodes closest to a target.
func (n *Node) FindNode(target ID, o QueryOptions) *Query { return n.findNode(target, o) }

func (n *Node) findNode(target ID, o QueryOptions) *Query {
	return n.newQuery(Message{internal: true, Command: cmdFindNode, Target: &target}, o)
}

func (n *Node) newQuery(m Message, o QueryOptions) *Query {
	target := *m.Target
	m.Target = &target
	return &Query{node: n, m: m, o: o, wake: make(chan struct{}, 1)}
}

// Run walks to the end, and commits if that was asked for, without showing the
// replies. The error is the walk's (the node is closed, the context or the
// session ended), or ErrTooFewNodes or that of the last failed commit if no
// commit succeeded.
func (q *Query) Run(ctx context.Context) error {
	var err error
	q.walk(ctx, false, func(_ Reply, e error) bool { err = e; return true })
	return err
}

// Replies walks and yields each reply that is not an error, as it comes. The
// walk waits for a reader that is slow. Leaving the loop ends the query at once
// and commits nothing; at the end of the loop the commits are done. An error, as
// that of [Query.Run], comes last.
func (q *Query) Replies(ctx context.Context) iter.Seq2[Reply, error] {
	return func(yield func(Reply, error) bool) { q.walk(ctx, true, yield) }
}

// ClosestReplies are the replies of the at most 20 persistent nodes that are
// closest to the target, nearest first; nil before the query has ended.
func (q *Query) ClosestReplies() []Reply {
	q.node.mu.Lock()
	defer q.node.mu.Unlock()
	return q.closest
}

// Closest are the at most 20 persistent nodes closest to the target, nearest
// first; nil before the query has ended.
func (q *Query) Closest() []Contact {
	replies := q.ClosestReplies()
	out := make([]Contact, len(replies))
	for i, r := range replies {
		out[i], _ = r.Contact()
	}
	return out
}

// Counts returns the numbers of answers, and of failures: error replies and
// requests that came to nothing.
func (q *Query) Counts() (answers, failures int) {
	q.node.mu.Lock()
	defer q.node.mu.Unlock()
	if q.lookup == nil {
		return 0, 0
	}
	return q.lookup.Answers, q.lookup.Failures
}

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
	q.seedBootstrap(ctx)
	var spare []Reply
	for {
		n.enter()
		q.step()
		batch, err := q.buffer, q.err
		q.buffer = spare[:0]
		if len(batch) > 0 {
			q.step() // there is room for replies again
		}
		done := err == nil && len(batch) == 0 && q.lookup.Done()
		if done && q.moreSeeds() {
			done = false
			n.leave()
			q.seedBootstrap(ctx)
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
			if err := q.commit(ctx); err != nil {
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
	case q.o.Session != nil && q.o.Session.err != nil:
		return q.o.Session.err
	}
	if err := n.usable(); err != nil {
		return err
	}
	q.started, q.streaming = true, streaming
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
	c.stats.Queries.Total++
	c.refresh = refreshTicks
	if s := q.o.Session; s != nil {
		s.queries = append(s.queries, q)
	}
	c.queries[q] = struct{}{}
	return nil
}

// seedTable offers the closest nodes of the routing table. The lock is held.
func (q *Query) seedTable() {
	q.fromTable = true
	c := q.node.core
	c.near = c.table.Closest(c.near[:0], *q.m.Target, max(K-q.lookup.Waiting(), 0))
	for _, n := range c.near {
		q.lookup.Offer(n.Contact, netip.AddrPort{})
	}
	q.lookup.SetAlpha(q.low)
}

// moreSeeds falls back on the routing table if the nodes given to start from
// led nowhere, and reports whether it did. The lock is held.
func (q *Query) moreSeeds() bool {
	if q.fromTable || q.lookup.Answers >= K/4 {
		return false
	}
	q.seedTable()
	return true
}

// seedBootstrap offers the bootstrap nodes if too few contacts are known.
func (q *Query) seedBootstrap(ctx context.Context) {
	n := q.node
	n.mu.Lock()
	few := len(n.core.boot) > 0 && !q.o.OnlyClosest && q.lookup.Waiting() < K
	n.mu.Unlock()
	if !few {
		return
	}
	addrs := n.boot.all(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		q.lookup.Offer(contactOf(a), netip.AddrPort{})
	}
}

// step asks whoever may be asked now. The lock is held.
func (q *Query) step() {
	if q.err != nil || len(q.buffer) >= bufferedReplies {
		return
	}
	for {
		to, ok := q.lookup.Next()
		if !ok {
			break
		}
		q.visit(to)
	}
	if q.lookup.Done() {
		q.signal()
	}
}

func (q *Query) visit(to Contact) {
	c := q.node.core
	o := outgoing{
		to: to.Addr, id: to.ID, hasID: true,
		onSlow: func() {
			q.lookup.Slow(to.Addr)
			q.step()
		},
		done: func(r *Reply, err error) { q.visited(to, r, err) },
	}
	if _, err := c.request(q.m.request(), o, q.retries, &q.visits); err != nil {
		q.lookup.Refused(to.Addr)
		if err != ErrBadAddress {
			q.stopLocked(err)
		}
	}
}

// visited takes the end of a visit. The lock is held.
func (q *Query) visited(to Contact, r *Reply, err error) {
	c := q.node.core
	switch {
	case q.err != nil:
		return
	case errors.Is(err, ErrTimeout):
		for _, by := range q.lookup.Down(to.Addr) {
			c.hintDown(by, to.Addr, &q.visits)
		}
	case err != nil:
		q.lookup.Refused(to.Addr)
		q.stopLocked(err)
		return
	case r.Error != OK:
		q.lookup.Refused(to.Addr)
		q.offer(r)
	default:
		q.accept(to, r)
	}
	if q.lookup.Answers+q.lookup.Failures >= q.full && !q.o.background {
		q.lookup.SetAlpha(q.full)
	}
	q.step()
}

// accept takes a reply that is not an error.
func (q *Query) accept(to Contact, r *Reply) {
	kept := r.clone()
	id, valid := ID{}, r.FromID != nil
	if valid {
		id = *r.FromID
	}
	q.lookup.Answered(to.Addr, id, valid)
	if _, twice := q.replies[id]; valid && !twice {
		q.replies[id] = &kept
	}
	q.offer(r)
	if q.o.background {
		alpha := q.low
		if q.node.core.calls.Len() < 3 {
			alpha = q.full
		}
		q.lookup.SetAlpha(alpha)
	}
	if q.streaming {
		q.buffer = append(q.buffer, kept)
		q.signal()
	}
}

// offer takes the first 20 nodes that a reply names, as far as they can be
// asked.
func (q *Query) offer(r *Reply) {
	if q.o.OnlyClosest {
		return
	}
	c := q.node.core
	for i := range min(r.closer.Len(), K) {
		a := r.closer.At(i)
		if !usable(a) || c.isOwn(a) || c.cfg.Filter != nil && !c.cfg.Filter(a) {
			continue
		}
		n := contactOf(a)
		if n.ID == c.table.Own() {
			continue
		}
		if q.lookup.Offer(n, r.From) == kad.KnownDown {
			c.hintDown(r.From, a, &q.visits)
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
	q.collect()
	q.lookup.Stop()
	if q.err == nil {
		q.err = errQueryOver
	}
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

// commit sends the closest nodes what the walk was made for.
// docs/spec/dht-rpc.md §7.6.
func (q *Query) commit(ctx context.Context) error {
	n := q.node
	n.enter()
	q.collect()
	q.lookup.Stop()
	n.core.cancel(&q.visits, errQueryOver)
	closest := q.closest
	n.leave()
	send := q.o.CommitFunc
	switch {
	case send != nil:
	case q.o.Commit:
		send = q.commitOne
	default:
		return nil
	}
	if len(closest) == 0 {
		return fmt.Errorf("dhtrpc: commit: %w", ErrTooFewNodes)
	}
	errs := make(chan error, len(closest))
	for _, r := range closest {
		go func() { errs <- send(ctx, r) }()
	}
	var last error
	committed := 0
	for range closest {
		if err := <-errs; err != nil {
			last = err
		} else {
			committed++
		}
	}
	if committed == 0 {
		return fmt.Errorf("dhtrpc: commit: %w", last)
	}
	return nil
}

func (q *Query) commitOne(ctx context.Context, r Reply) error {
	if r.Token == nil {
		return ErrNoToken
	}
	m := q.m
	m.Token = r.Token
	o := requestSettings(nil)
	o.session = q.o.Session
	_, err := q.node.roundTrip(ctx, r.From, &m, &o)
	return err
}

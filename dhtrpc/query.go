package dhtrpc

import (
	"context"
	"iter"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/kad"
)

// QueryOptions change how a query walks. The zero value is good.
type QueryOptions struct {
	// Commit sends the query's command and value again to the at most 20
	// closest nodes, each with the token that it gave, when the walk ends. A node
	// that answers counts as committed to, even if it answers with an error code;
	// whoever minds has a CommitFunc.
	Commit bool
	// CommitFunc, if not nil, is called instead for each of the closest
	// replies, all at once. The query succeeds if one call does. Its context ends
	// with the query's, with the session and with the node.
	CommitFunc func(context.Context, Reply) error

	// Nodes are where the walk starts; Replies are those of an earlier query,
	// for the same purpose. Fewer than 20 are completed from the routing table.
	Nodes   []netip.AddrPort
	Replies []Reply
	// OnlyClosest asks Nodes and Replies and nobody else.
	OnlyClosest bool

	// Concurrency is the number of requests under way; Config.Concurrency.
	Concurrency int
	// EndsEarly is for a reader who will leave the loop at the first good value,
	// which the closest nodes probably have: the walk begins with three requests
	// under way, and goes on with Concurrency when a node answers without a
	// value, or none has answered for 100 ms.
	EndsEarly bool
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
	leftOut   []Contact     // since they are silent
	widened   bool          // farther nodes of the table were offered
	began     time.Time
	fromTable bool          // the routing table's nodes were offered
	hurried   bool          // bootstrap nodes may have been left out since their names took long
	wake      chan struct{} // room for one; something changed for the procedure
	closest   []Reply       // when the walk has ended
	retries   int
	hurry     *time.Timer // ends the caution of one that may end early
	full      int         // concurrency at best
	low       int         // and in the background

	// Set by begin. What the procedure waits for beside visits ends with ctx.
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// Query returns a query that asks for a command of the application. Its target
// must not be nil; its token is not sent; its value is not copied.
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

package hyperdht

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/warren-dht/warren/dhtrpc"
)

// A QueryOption changes how the query beneath an operation walks.
type QueryOption = func(*dhtrpc.QueryOptions)

func queryOptions(opts ...QueryOption) (o dhtrpc.QueryOptions) {
	for _, f := range opts {
		if f != nil {
			f(&o)
		}
	}
	o.Commit, o.CommitFunc = false, nil
	return o
}

// endsEarly is for a query that is left at the first good value.
func endsEarly(o *dhtrpc.QueryOptions) { o.EndsEarly = true }

// Stored says where something was stored, and where not and why.
type Stored struct {
	Target  Target
	Nodes   []dhtrpc.Contact // that accepted it
	Refused []Refusal        // the others of the closest nodes
}

// A Refusal is a node that did not store something.
type Refusal struct {
	Node dhtrpc.Contact
	// Err is a [dhtrpc.ErrorCode] if the node answered, such as [SeqTooLow],
	// else why there was no answer.
	Err error
}

// err is nil if something was stored, else the most telling reason: a node's
// answer rather than that there was none.
func (s *Stored) err() error {
	if len(s.Nodes) > 0 || len(s.Refused) == 0 {
		return nil
	}
	worst := s.Refused[0].Err
	for _, r := range s.Refused {
		if code := dhtrpc.OK; errors.As(r.Err, &code) {
			return r.Err
		}
	}
	return worst
}

// A commit makes the request that stores something at a node, under the token
// that it gave.
type commit func(node dhtrpc.ID, token *[32]byte) (dhtrpc.Message, error)

// walk runs a query to its end, shows each reply, and returns the closest ones.
func (n *Node) walk(ctx context.Context, ask dhtrpc.Message, opt QueryOption, each func(*dhtrpc.Reply)) ([]dhtrpc.Reply, error) {
	q := n.rpc.Query(ask, queryOptions(opt))
	if each == nil {
		err := q.Run(ctx)
		return q.ClosestReplies(), err
	}
	for r, err := range q.Replies(ctx) {
		if err != nil {
			return nil, err
		}
		each(&r)
	}
	return q.ClosestReplies(), nil
}

// commitAll has something stored at all of the closest nodes at once.
func (n *Node) commitAll(ctx context.Context, target Target, closest []dhtrpc.Reply, request commit) (Stored, error) {
	s := Stored{Target: target}
	if len(closest) == 0 {
		return s, dhtrpc.ErrTooFewNodes
	}
	var wg sync.WaitGroup
	errs := slices.Repeat([]error{nil}, len(closest))
	for i := range closest {
		wg.Go(func() {
			node, _ := closest[i].Contact()
			_, errs[i] = n.commitTo(ctx, node, closest[i].Token, request)
		})
	}
	wg.Wait()
	for i, err := range errs {
		node, _ := closest[i].Contact()
		if err != nil {
			s.Refused = append(s.Refused, Refusal{node, err})
		} else {
			s.Nodes = append(s.Nodes, node)
		}
	}
	return s, s.err()
}

// always is the commit that does not depend on the node.
func always(m dhtrpc.Message) commit {
	return func(dhtrpc.ID, *[32]byte) (dhtrpc.Message, error) { return m, nil }
}

// commitTo has something stored at one node. A token that has expired since the
// node gave it is replaced by the fresh one in its refusal.
func (n *Node) commitTo(ctx context.Context, node dhtrpc.Contact, token *[32]byte, request commit) (dhtrpc.Reply, error) {
	for attempt := 0; ; attempt++ {
		if token == nil {
			return dhtrpc.Reply{}, dhtrpc.ErrNoToken
		}
		m, err := request(node.ID, token)
		if err != nil {
			return dhtrpc.Reply{}, err
		}
		m.Token = token
		r, err := n.rpc.Request(ctx, node.Addr, m, dhtrpc.WithID(node.ID))
		if err != nil {
			return r, err
		}
		if r.Error != dhtrpc.InvalidToken || r.Token == nil || attempt > 0 {
			return r, r.Err()
		}
		token = r.Token
	}
}

// tried wraps an error with what failed. It says in this package's words that the
// node is closed or suspended.
func tried(what string, target Target, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dhtrpc.ErrClosed):
		err = ErrClosed
	case errors.Is(err, dhtrpc.ErrSuspended):
		err = ErrSuspended
	}
	return fmt.Errorf("hyperdht: %s %x: %w", what, target[:6], err)
}

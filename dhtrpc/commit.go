package dhtrpc

import (
	"context"
	"fmt"
)

// commit sends the closest nodes what the walk was made for.
// docs/spec/dht-rpc.md §7.6.
func (q *Query) commit() error {
	n := q.node
	n.enter()
	q.collect()
	q.lookup.Stop()
	q.suspectLate()
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
		go func() { errs <- send(q.ctx, r) }()
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

// commitOne sends the query's command with the token that a node gave. If that
// has died, as it does when the reader of the walk is slow, the refusal brings
// another, with which it is tried again.
func (q *Query) commitOne(ctx context.Context, r Reply) error {
	if r.Token == nil {
		return ErrNoToken
	}
	m := q.m
	m.Token = r.Token
	o := requestSettings(nil)
	o.session = q.o.Session
	answer, err := q.node.roundTrip(ctx, r.From, &m, &o)
	if err == nil && answer.Error == InvalidToken && answer.Token != nil {
		m.Token = answer.Token
		_, err = q.node.roundTrip(ctx, r.From, &m, &o)
	}
	return err
}

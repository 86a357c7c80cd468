package dhtrpc

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/warren-dht/warren/kad"
)

// bufferedReplies is how many replies wait for a slow reader before the query
// stops asking (docs/spec/dht-rpc.md §7.5).
const bufferedReplies = 16

// step asks whoever may be asked now. The lock is held.
func (q *Query) step() {
	if q.err != nil || len(q.buffer) >= bufferedReplies || q.mayEnd(q.buffer) {
		return
	}
	for {
		to, ok := q.lookup.Next()
		if !ok {
			break
		}
		q.visit(to, nil)
	}
	if q.lookup.Done() {
		q.signal()
	}
}

// visit asks a node, with a token if it wants to see one.
func (q *Query) visit(to Contact, token *[32]byte) {
	c := q.node.core
	m := q.m.request()
	m.token = token
	o := outgoing{
		to: to.Addr, id: to.ID, hasID: true,
		onSlow: func() {
			q.lookup.Slow(to.Addr)
			q.step()
		},
		hopeful: func() bool { return q.lookup.Answers == 0 || !q.lookup.OnlyLate() },
		done: func(r *Reply, err error) {
			if token == nil && q.err == nil && r != nil && r.withheld && r.Token != nil && r.Value == nil && r.From == to.Addr {
				q.visit(to, r.Token)
				return
			}
			q.visited(to, r, err)
		},
	}
	if _, err := c.request(m, o, q.retries, &q.visits); err != nil {
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
		by := q.lookup.Down(to.Addr)
		if err == errGivenUp || q.lookup.Answers == 0 {
			c.suspect(to, by, q.began) // it may only be slow, or it is us
			break
		}
		c.silent.Put(c.now, to.Addr, silence{sure: true}, struct{}{})
		for _, by := range by {
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

// accept takes a reply that is not an error. Only the node asked can be among
// the closest: whoever answers under another source address may have forged it.
func (q *Query) accept(to Contact, r *Reply) {
	kept := r.clone()
	id, valid := ID{}, r.FromID != nil && r.From == to.Addr
	if valid {
		id = *r.FromID
	}
	q.lookup.Answered(to.Addr, id, valid)
	if valid {
		q.keep(id, &kept)
	}
	q.offer(r)
	if q.o.EndsEarly && r.Value == nil {
		q.lookup.SetAlpha(q.low)
	}
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

// keep takes the first reply of a node that is among the closest, and forgets
// those of nodes that no longer are: nodes that name each other without end must
// not make a query hold what they all said.
func (q *Query) keep(id ID, r *Reply) {
	among := func(id ID) bool {
		return slices.ContainsFunc(q.lookup.Closest(), func(c Contact) bool { return c.ID == id })
	}
	if q.replies[id] != nil || !among(id) {
		return
	}
	if len(q.replies) == 2*K {
		maps.DeleteFunc(q.replies, func(id ID, _ *Reply) bool { return !among(id) })
	}
	q.replies[id] = r
}

// mayEnd reports whether a reader who is shown these replies may leave, so that
// it is better to ask nobody before he has seen them.
func (q *Query) mayEnd(replies []Reply) bool {
	return q.o.EndsEarly && slices.ContainsFunc(replies, func(r Reply) bool { return r.Value != nil })
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
		q.propose(n, r.From)
	}
}

// propose offers a contact to the lookup, unless it is known to be silent, and
// reports whether it is not. Whoever named a silent one is told.
func (q *Query) propose(n Contact, by netip.AddrPort) bool {
	c := q.node.core
	offer := q.lookup.Offer
	if c.silent.Len() > 0 {
		switch s, noted, known := c.silent.Get(c.now, n.Addr); {
		case known && s.sure:
			c.recheck(n, s, noted)
			if len(q.leftOut) < K && !slices.Contains(q.leftOut, n) {
				q.leftOut = append(q.leftOut, n)
			}
			if by.IsValid() {
				c.hintDown(by, n.Addr, &q.visits)
			}
			return false
		case known:
			offer = q.lookup.OfferLast
		}
	}
	if offer(n, by) == kad.KnownDown && by.IsValid() {
		c.hintDown(by, n.Addr, &q.visits)
	}
	return true
}

package dhtrpc

import (
	"net/netip"
	"time"

	"github.com/warren-dht/warren/internal/keep"
	"github.com/warren-dht/warren/kad"
)

// A node that has fallen silent costs each query that asks it half a second. So
// it is remembered, checked at once, and not asked again for a while; and where
// one has, others may have: the more checks fail, the more are made.
const (
	maxSilent  = 4096 // addresses that are remembered
	silentAge  = 5 * time.Minute
	maxSuspect = 32              // pings under way to find out
	moreChecks = 8               // made when one has failed
	lately     = 2 * time.Second // a node has answered: we are not cut off
	// A silent node that is named again is pinged again, beside the query: it may
	// only have been busy. The pauses double.
	firstRecheck = time.Second
	lastRecheck  = time.Minute
)

// A silence is what is known of an address that did not answer.
type silence struct {
	sure  bool          // a ping was in vain while others answered; else it was only late
	pause time.Duration // before it is pinged again; 0: firstRecheck
}

func newSilent() *keep.Map[netip.AddrPort, silence, struct{}] {
	return keep.NewMap[netip.AddrPort, silence, struct{}](keep.Limits{Entries: maxSilent, Age: silentAge}, nil)
}

// suspect pings a node that was late. If it does not answer, it leaves the table,
// those who named it are told, and others are checked; unless nobody has answered
// since a time, when the node was asked first: then it may be us.
func (c *core) suspect(n Contact, namedBy []netip.AddrPort, since time.Time) {
	if s, _, known := c.silent.Get(c.now, n.Addr); known && s.sure || c.suspects[n.Addr] || c.suspended {
		return
	}
	c.silent.Put(c.now, n.Addr, silence{}, struct{}{})
	if len(c.suspects) >= maxSuspect {
		c.stats.Refused.Limits++
		return
	}
	x := c.table.Get(n.ID)
	if x != nil && x.Addr != n.Addr {
		x = nil
	}
	err := c.check(n.Addr, func(_ *Reply, err error) {
		delete(c.suspects, n.Addr)
		if x != nil {
			x.Data.suspect = false
		}
		if err != ErrTimeout {
			return // answers are noted where all are
		}
		c.unproved++ // a peer that names dead nodes can cause that
		if !c.answeredAt.After(since) {
			return // nobody answers: it is us
		}
		c.silent.Put(c.now, n.Addr, silence{sure: true}, struct{}{})
		for _, by := range namedBy {
			c.hintDown(by, n.Addr, nil)
		}
		if x != nil && c.table.Get(n.ID) == x {
			c.removeNode(n.ID)
			c.suspectMore(n.Addr)
		}
	})
	if err != nil {
		return
	}
	if x != nil {
		x.Data.pinged, x.Data.suspect = c.tick, true
	}
	if c.suspects == nil {
		c.suspects = map[netip.AddrPort]bool{}
	}
	c.suspects[n.Addr] = true
}

// recheck pings a silent node that was named again. Its answer ends the silence,
// as any answer does.
func (c *core) recheck(n Contact, s silence, noted time.Time) {
	if s.pause = max(s.pause, firstRecheck); c.now.Sub(noted) < s.pause || c.suspects[n.Addr] || len(c.suspects) >= maxSuspect || c.suspended {
		return
	}
	s.pause = min(2*s.pause, lastRecheck)
	c.silent.Put(c.now, n.Addr, s, struct{}{})
	if c.check(n.Addr, func(*Reply, error) { delete(c.suspects, n.Addr) }) != nil {
		return
	}
	if c.suspects == nil {
		c.suspects = map[netip.AddrPort]bool{}
	}
	c.suspects[n.Addr] = true
}

// suspectMore checks other nodes of the table since one of it has gone silent:
// those of its network, and some others.
func (c *core) suspectMore(gone netip.AddrPort) {
	c.gone++
	since := c.now.Add(-lately)
	if subnet, limited := kad.Subnet(gone.Addr()); limited {
		for n := range c.table.All() {
			if subnet.Contains(n.Addr.Addr()) && n.Data.pinged != c.tick {
				c.suspect(n.Contact, nil, since)
			}
		}
	}
	for range moreChecks {
		if n := c.table.Random(c.rand); n != nil && n.Data.pinged != c.tick && len(c.suspects) < maxSuspect {
			c.suspect(n.Contact, nil, since)
		}
	}
}

// check pings a node of the table, or one that may be in others', and does not
// wait for long.
func (c *core) check(to netip.AddrPort, done func(*Reply, error)) error {
	o := outgoing{to: to, timeout: c.rtt.Late(soonLeast, requestTimeout), maxTimeout: requestTimeout, done: done}
	_, err := c.request(&request{internal: true, command: cmdPing}, o, defaultRetries, nil)
	return err
}

// suspectLate suspects the nodes that were late when the query ended.
func (q *Query) suspectLate() {
	c := q.node.core
	if c.suspended {
		return
	}
	for p := q.visits.first; p != nil; p = p.Payload.next {
		if o := &p.Payload; o.hasID && o.onSlow == nil {
			c.suspect(Contact{ID: o.id, Addr: o.to}, q.lookup.Down(o.to), q.began)
		}
	}
}

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
	maxSuspect = 32 // pings under way to find out
	moreChecks = 4  // made when one has failed
)

// A silence is what is known of an address that did not answer.
type silence struct {
	sure bool // a ping was in vain while others answered; else it was only late
}

func newSilent() *keep.Map[netip.AddrPort, silence, struct{}] {
	return keep.NewMap[netip.AddrPort, silence, struct{}](keep.Limits{Entries: maxSilent, Age: silentAge}, nil)
}

// suspect pings a node that was late. If it does not answer, it leaves the table,
// those who named it are told, and others are checked.
func (c *core) suspect(n Contact, namedBy []netip.AddrPort) {
	if s, _, known := c.silent.Get(c.now, n.Addr); known && s.sure || c.suspects[n.Addr] || c.suspended {
		return
	}
	c.silent.Put(c.now, n.Addr, silence{}, struct{}{})
	if len(c.suspects) >= maxSuspect {
		c.stats.Refused.Limits++
		return
	}
	before := c.stats.Requests.Responses
	o := outgoing{to: n.Addr, timeout: c.rtt.Late(soonLeast, requestTimeout), maxTimeout: requestTimeout}
	o.done = func(r *Reply, err error) {
		delete(c.suspects, n.Addr)
		if err != ErrTimeout {
			return // answers are noted where all are
		}
		c.unproved++ // whoever names dead nodes can cause that
		if c.stats.Requests.Responses == before {
			return // nobody answers: it is us
		}
		c.silent.Put(c.now, n.Addr, silence{sure: true}, struct{}{})
		for _, by := range namedBy {
			c.hintDown(by, n.Addr, nil)
		}
		if x := c.table.Get(n.ID); x != nil && x.Addr == n.Addr {
			c.removeNode(n.ID)
			c.suspectMore(n.Addr, before)
		}
	}
	if _, err := c.request(&request{internal: true, command: cmdPing}, o, defaultRetries, nil); err != nil {
		return
	}
	if c.suspects == nil {
		c.suspects = map[netip.AddrPort]bool{}
	}
	c.suspects[n.Addr] = true
}

// suspectMore checks other nodes of the table since one of it has gone silent
// while some answer was received, of which there were so many before: those of
// its network, and some of which nothing was heard for longest.
func (c *core) suspectMore(gone netip.AddrPort, before int) {
	if c.stats.Requests.Responses == before {
		return
	}
	more := moreChecks
	subnet, limited := kad.Subnet(gone.Addr())
	for n := c.table.Oldest(); n != nil; n = n.Newer() {
		near := limited && subnet.Contains(n.Addr.Addr())
		if len(c.suspects) >= maxSuspect {
			return
		}
		if !near && more == 0 || c.tick-n.Data.pinged < 1 || c.suspects[n.Addr] {
			continue
		}
		n.Data.pinged = c.tick
		if !near {
			more--
		}
		c.suspect(n.Contact, nil)
	}
}

// suspectLate suspects the nodes that were late when the query ended.
func (q *Query) suspectLate() {
	c := q.node.core
	if c.suspended {
		return
	}
	for p := q.visits.first; p != nil; p = p.Payload.next {
		if o := &p.Payload; o.hasID && o.onSlow == nil {
			c.suspect(Contact{ID: o.id, Addr: o.to}, q.lookup.Down(o.to))
		}
	}
}

package dhtrpc1

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/warren-dht/warren/kad"
)

// A tableNode is a contact in the table.
type tableNode = kad.Node[ID, standing]

// standing is what we know of a node in the table.
type standing struct {
	heard    time.Time // when it last sent something
	proven   bool      // it has answered from its address, and has not failed since
	checking bool      // a ping to it is under way
}

// heard notes that a contact sent us something; proven means that it was the
// answer to a request of ours. In contrast to the reference, which lets every
// datagram move a node to another address, a known node keeps its address for
// as long as it answers there.
func (c *core) heard(now time.Time, from Contact, proven bool) {
	if from.ID == c.id {
		return
	}
	n := c.table.Get(from.ID)
	if n != nil && n.Addr != from.Addr && proven && !n.Data.proven {
		c.table.Remove(from.ID) // nobody has answered there
		n = nil
	}
	if n == nil {
		c.insert(now, from, proven)
		return
	}
	if n.Addr != from.Addr {
		c.moved(now, n.Contact, from.Addr)
		return
	}
	n.Data.heard = now
	n.Data.proven = n.Data.proven || proven
	c.table.Touch(n)
}

// insert puts a contact into the table. In a full bucket it takes the place of
// one that has proven nothing, if it has itself, else of the first of the three
// oldest that does not answer any more (docs/spec/dht-rpc-v2.md §10).
func (c *core) insert(now time.Time, from Contact, proven bool) {
	if !sendable(from.Addr) {
		return
	}
	s := standing{heard: now, proven: proven}
	n, why := c.table.Insert(from, s)
	if n == nil && proven && c.makeRoom(from, why) {
		n, _ = c.table.Insert(from, s)
	}
	if n != nil || !c.bootstrapped {
		return
	}
	var rivals []Contact
	bucket := slices.Clone(c.table.Bucket(from.ID))
	if len(bucket) < K {
		return // not for want of room
	}
	slices.SortFunc(bucket, func(a, b *tableNode) int { return a.Data.heard.Compare(b.Data.heard) })
	for _, n := range bucket[:3] {
		if now.Sub(n.Data.heard) >= freshFor && !n.Data.checking {
			rivals = append(rivals, n.Contact)
		}
	}
	c.challenge(now, rivals, from, s)
}

// makeRoom removes a node that has not answered and keeps another out of its
// bucket, or is one too many of its subnet there: anybody can send requests in
// the name of many. It reports whether there was one.
func (c *core) makeRoom(newcomer Contact, why kad.Insertion) bool {
	subnet, _ := kad.Subnet(newcomer.Addr.Addr())
	for _, n := range c.table.Bucket(newcomer.ID) {
		if other, _ := kad.Subnet(n.Addr.Addr()); !n.Data.proven && (why == kad.Full || other == subnet) {
			c.table.Remove(n.ID)
			return true
		}
	}
	return false
}

func (c *core) challenge(now time.Time, rivals []Contact, newcomer Contact, s standing) {
	if len(rivals) == 0 {
		return
	}
	c.check(now, rivals[0], func(now time.Time, alive bool) {
		if alive {
			c.challenge(now, rivals[1:], newcomer, s)
			return
		}
		c.table.Insert(newcomer, s)
	})
}

// moved deals with a known id that sent from another address. Whoever has the
// old address keeps the id while it answers; if it does not, the new one must.
func (c *core) moved(now time.Time, old Contact, addr netip.AddrPort) {
	c.check(now, old, func(now time.Time, alive bool) {
		if !alive && c.checks < maxChecks {
			c.checks++
			c.ping(now, addr, func(time.Time, answer) { c.checks-- }) // an answer inserts it
		}
	})
}

// check pings a node of the table and removes it if it does not answer with its
// id. done, which may be nil, is told. Nothing happens while the node is being
// checked or too many others are.
func (c *core) check(now time.Time, node Contact, done func(now time.Time, alive bool)) {
	n := c.table.Get(node.ID)
	if n == nil || n.Addr != node.Addr || n.Data.checking || c.checks >= maxChecks {
		return
	}
	n.Data.checking = true
	c.checks++
	c.ping(now, node.Addr, func(now time.Time, a answer) {
		c.checks--
		alive := a.err == nil && bytes.Equal(a.res.id, node.ID[:])
		if n := c.table.Get(node.ID); n != nil && n.Addr == node.Addr {
			n.Data.checking = false
			if !alive {
				c.table.Remove(node.ID)
			}
		}
		if done != nil {
			done(now, alive)
		}
	})
}

// verify checks nodes that have sent requests, or failed in a query, and have
// not answered since: anybody can send requests in another's name.
func (c *core) verify(now time.Time) {
	var due []Contact
	for n := range c.table.All() {
		if !n.Data.proven && now.Sub(n.Data.heard) >= tick && len(due) < verifyBatch {
			due = append(due, n.Contact)
		}
	}
	for _, n := range due {
		c.check(now, n, nil)
	}
}

// sweep checks the three nodes that have been silent longest, one while queries
// are busy.
func (c *core) sweep(now time.Time) {
	count := 3
	if c.queries > 2 {
		count = 1
	}
	var due []Contact
	for n := c.table.Oldest(); n != nil && len(due) < count && now.Sub(n.Data.heard) >= freshFor; n = n.Newer() {
		due = append(due, n.Contact)
	}
	for _, n := range due {
		c.check(now, n, nil)
	}
}

// suspect notes that a node did not answer a query, so that the next tick
// checks it.
func (c *core) suspect(node Contact) {
	if n := c.table.Get(node.ID); n != nil && n.Addr == node.Addr {
		n.Data.proven = false
	}
}

// closest returns the contacts closest to a target, nearest first.
func (c *core) closest(target ID, n int) []Contact {
	var room [K]*tableNode
	nodes := c.table.Closest(room[:0], target, n)
	contacts := make([]Contact, len(nodes))
	for i, n := range nodes {
		contacts[i] = n.Contact
	}
	return contacts
}

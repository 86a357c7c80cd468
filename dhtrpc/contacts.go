package dhtrpc

import (
	"net/netip"
	"slices"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/kad"
	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/udp"
)

// Constants of the routing table's upkeep, in ticks of 5 s
// (docs/spec/dht-rpc.md §6.1).
const (
	recentTicks = 12  // 1 min
	oldTicks    = 360 // 30 min
	maxChecks   = 10  // of down hints, at once
	maxSwaps    = 3   // of full buckets, at once
	proofTries  = 1   // retransmissions to a stranger
)

// An entry is what the node notes about a contact in its table, in ticks.
type entry struct {
	added, pinged int32
	sampled       int32 // when its view of our address was taken; 0: never
	hints         int32 // that it is down
	suspect       bool  // it was late, and is being checked: others are not told of it
}

// noteReply learns from a reply that was awaited: the sender receives at its
// address. docs/spec/dht-rpc.md §6.3.
func (c *core) noteReply(conn udp.Conn, from netip.AddrPort, id *ID, to netip.AddrPort) {
	if c.cfg.Filter != nil && !c.cfg.Filter(from) {
		return
	}
	if id == nil {
		// Bootstrap nodes and other id-less peers may tell us our address, a few
		// times only.
		if len(c.strange) < max(1, len(c.boot)) && !slices.Contains(c.strange, from) {
			c.strange = append(c.strange, from)
			c.sampleNAT(from, to)
		}
		return
	}
	c.note(conn == c.conn(), Contact{ID: *id, Addr: from}, to)
}

// noteUnasked learns from a request, or from the reply of another than the node
// asked, whose sender claims, with the right id, to be persistent. The source
// address of either may be forged. So a sender with a public address counts for
// nothing before it has answered a ping; the reference takes every such sender
// at its word, and an attacker can fill its table with addresses that are not
// his. Others are believed, as there.
func (c *core) noteUnasked(conn udp.Conn, from Contact, to netip.AddrPort) {
	if c.cfg.Filter != nil && !c.cfg.Filter(from.Addr) {
		return
	}
	if exempt(from.Addr.Addr()) {
		c.note(conn == c.conn(), from, to)
		return
	}
	if c.table.Get(from.ID) != nil || c.proving[from.Addr] || !c.welcome(from) {
		return
	}
	if len(c.proving) >= c.cfg.Limits.Verifications || c.client == nil {
		c.stats.Refused.Limits++
		return
	}
	err := c.ping(from.Addr, proofTries, func(_ *Reply, err error) {
		delete(c.proving, from.Addr)
		if err == ErrTimeout {
			c.unproved++
		}
	})
	if err == nil {
		if c.proving == nil {
			c.proving = map[netip.AddrPort]bool{}
		}
		c.proving[from.Addr] = true
	}
}

// welcome reports whether a new contact could find a place in the table.
func (c *core) welcome(n Contact) bool {
	return len(c.table.Bucket(n.ID)) < K || c.oldest(n.ID) != nil
}

// note takes a sign of life of a contact. Observed is how it sees us; sample
// says whether the datagram came in on the socket that is sampled.
func (c *core) note(sample bool, from Contact, observed netip.AddrPort) {
	n := c.table.Get(from.ID)
	if n == nil {
		c.insert(from, observed)
		return
	}
	if sample && (n.Data.sampled == 0 || c.tick-n.Data.sampled >= oldTicks) && c.sampleNAT(from.Addr, observed) {
		n.Data.sampled = c.tick
	}
	n.Data.pinged = c.tick
	c.table.Touch(n)
}

// insert puts a contact into the table, or lets it wait for the place of one
// that may be dead.
func (c *core) insert(from Contact, observed netip.AddrPort) {
	e := entry{added: c.tick, pinged: c.tick}
	n, result := c.table.Insert(from, e)
	switch result {
	case kad.Inserted:
		if observed.IsValid() && c.sampleNAT(from.Addr, observed) {
			n.Data.sampled = c.tick
		}
		c.emit(EventNodeAdded, from.Addr)
		c.trim()
	case kad.Full:
		c.full(from)
	case kad.Crowded:
		c.stats.Refused.Limits++
	}
}

// addNode puts a contact that was given by hand into the table. A contact that
// is there already stays as it is: the reference lists it twice (a defect).
func (c *core) addNode(a netip.AddrPort) {
	e := entry{added: c.tick, pinged: c.tick}
	if _, result := c.table.Insert(contactOf(a), e); result == kad.Inserted {
		c.emit(EventNodeAdded, a)
		c.trim()
	}
}

// trim tells of nodes that leave since the table has become diverse.
func (c *core) trim() {
	for _, n := range c.table.Trim() {
		c.emit(EventNodeRemoved, n.Addr)
	}
}

// oldest is the node of a full bucket that may have to give way, nil if none
// may. docs/spec/dht-rpc.md §6.4.
func (c *core) oldest(id ID) *kad.Node[ID, entry] {
	var o *kad.Node[ID, entry]
	for _, n := range c.table.Bucket(id) {
		if n.Data.pinged == c.tick {
			continue
		}
		if o == nil || n.Data.pinged < o.Data.pinged || n.Data.pinged == o.Data.pinged && n.Data.added < o.Data.added {
			o = n
		}
	}
	if o == nil || c.tick-o.Data.pinged < recentTicks && c.tick-o.Data.added > oldTicks {
		return nil
	}
	return o
}

// full pings the oldest node of a full bucket; the newcomer takes its place if
// it does not answer for itself.
func (c *core) full(newcomer Contact) {
	if !c.bootstrapped || c.swaps >= maxSwaps {
		return
	}
	o := c.oldest(newcomer.ID)
	if o == nil {
		return
	}
	o.Data.pinged = c.tick
	err := c.ping(o.Addr, defaultRetries, func(r *Reply, err error) {
		c.swaps--
		if r != nil && r.FromID != nil || err != nil && err != ErrTimeout || c.table.Get(o.ID) != o {
			return
		}
		c.removeNode(o.ID)
		c.insert(newcomer, netip.AddrPort{})
	})
	if err == nil {
		c.swaps++
	}
}

// checkNode pings a node of the table and removes it unless this very answer
// carries its valid id. (The reference compares ticks, and so removes a node
// that was heard from in the present one: a defect. docs/spec/dht-rpc.md §6.5.)
func (c *core) checkNode(n *kad.Node[ID, entry], lenient bool) {
	n.Data.pinged = c.tick
	since := c.now.Add(-lately)
	err := c.check(n.Addr, func(r *Reply, err error) {
		c.checks--
		if r != nil && r.FromID != nil || err != nil && err != ErrTimeout {
			return
		}
		us := !c.answeredAt.After(since) // nobody answers
		if c.table.Get(n.ID) == n && !(us && lenient) {
			if c.removeNode(n.ID); !us {
				c.suspectMore(n.Addr)
			}
		}
	})
	if err == nil {
		c.checks++
	}
}

// hintedDown follows a hint that a node is dead: it verifies, never believes.
// docs/spec/dht-rpc.md §4.
func (c *core) hintedDown(by, dead netip.AddrPort) {
	if c.checks >= maxChecks || !addressable(dead) {
		return
	}
	n := c.table.Get(IDOf(dead))
	if n == nil || n.Data.pinged == c.tick && n.Data.hints > 0 {
		return
	}
	if !exempt(by.Addr()) {
		if c.hinted == nil {
			c.hinted = map[netip.Addr]int{}
		}
		if c.hinted[by.Addr()] >= c.cfg.Limits.DownHintsPerHost {
			c.stats.Refused.Limits++
			return
		}
		if len(c.hinted) < 1024 {
			c.hinted[by.Addr()]++
		}
	}
	n.Data.hints++
	c.checkNode(n, false)
}

// hintDown tells a node that one it named did not answer.
func (c *core) hintDown(to, dead netip.AddrPort, g *requests) {
	if c.cfg.NoDownHints || c.cfg.DownHints >= 0 && c.hints >= c.cfg.DownHints {
		return
	}
	c.hints++
	var value [compact.AddrSize]byte
	m := request{internal: true, command: cmdDownHint, value: compact.AppendAddr(value[:0], dead)}
	c.request(&m, outgoing{to: to}, defaultRetries, g)
}

// removeNode takes a node out of the table, if it is there.
func (c *core) removeNode(id ID) {
	if n := c.table.Remove(id); n != nil {
		c.emit(EventNodeRemoved, n.Addr)
	}
}

// A vote notes which network told us our address, and when.
type vote struct {
	subnet netip.Prefix // invalid if it is exempt
	tick   int32
}

// sampleNAT takes the address a at which by (the zero value: we ourselves) sees
// us. It reports whether that counts: who has many ports of one network must not
// become the majority.
func (c *core) sampleNAT(by, a netip.AddrPort) bool {
	if !usable(a) {
		return false
	}
	subnet, limited := kad.Subnet(by.Addr())
	if limited {
		votes := 0
		for _, v := range c.votes {
			if v.subnet == subnet && c.tick-v.tick < oldTicks {
				votes++
			}
		}
		if votes >= c.cfg.Limits.Votes {
			return false
		}
	}
	c.votes[c.voted%len(c.votes)] = vote{subnet, c.tick}
	c.voted++
	c.changeNAT(func() { c.nat.Add(a) })
	return true
}

// newNAT begins anew to listen to others about our address, with a sampler that
// may know something.
func (c *core) newNAT(s *nat.Sampler) {
	c.votes = [len(c.votes)]vote{}
	c.changeNAT(func() { c.nat = s })
}

// changeNAT tells of it if the public address is another one afterwards.
func (c *core) changeNAT(f func()) {
	was := publicAddr(c.nat)
	f()
	if is := publicAddr(c.nat); is != was {
		c.emit(EventNATUpdate, is)
	}
}

func publicAddr(s *nat.Sampler) netip.AddrPort {
	host, port := s.Addr()
	return netip.AddrPortFrom(host, port)
}

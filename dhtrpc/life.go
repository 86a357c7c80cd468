package dhtrpc

import (
	"net/netip"
	"time"

	"github.com/warren-dht/warren/nat"
)

// Constants of a node's life, in ticks of 5 s (docs/spec/dht-rpc.md §6.1).
const (
	tickTime        = 5 * time.Second
	sleepTime       = 15 * time.Second // between two ticks: the machine slept
	refreshTicks    = 60               // 5 min
	pingTicks       = 8                // 40 s
	smallTicks      = 64               // 320 s
	stableTicks     = 240              // 20 min
	moreStableTicks = 3 * stableTicks
	roundPings      = 5
	tickPings       = 4 // of a persistent node, between the rounds
	movedSamples    = 4 // of our public address, before an id is given up
)

// onTick runs every five seconds. docs/spec/dht-rpc.md §6.6.
func (c *core) onTick() {
	// The monotonic clock stands still while some systems sleep, so this one is
	// the wall's.
	wall := c.now.Round(0)
	if wall.Sub(c.ticked) > sleepTime {
		c.wakeup()
	} else {
		c.tick++
	}
	c.ticked, c.nextAt = wall, c.now.Add(tickTime)
	c.hints = 0
	clear(c.hinted)
	if !c.bootstrapped {
		return
	}
	c.checkIdentity()
	if c.cfg.Ephemeral != Always && c.ephemeral {
		if c.stable--; c.stable <= 0 {
			if host, _ := c.nat.Addr(); host == c.lastIP {
				c.stable = moreStableTicks
			} else {
				c.want(taskNetworkState)
			}
		}
	}
	if c.tick%pingTicks == 0 {
		c.pingSome()
	} else {
		c.pingRandom()
	}
	if c.tick%smallTicks == 0 && c.table.Len() < K {
		c.want(taskRefresh)
	} else if c.refresh--; c.refresh <= 0 {
		c.want(taskRefresh)
	}
	r := c.stats.Requests
	if c.health.update(r.Responses, r.Timeouts-c.unproved) {
		c.emit(EventNetworkUpdate, netip.AddrPort{})
	}
}

// checkIdentity gives up an id that is not that of our public address any more,
// once this has been so for a minute: few believe it. The reference keeps it
// for ever. The node looks for its new place at once.
func (c *core) checkIdentity() {
	a, ok := c.nat.AddrPort()
	if c.ephemeral || c.cfg.Public.IsValid() || !ok || c.nat.Len() < movedSamples || IDOf(a) == c.table.Own() {
		c.moved = 0
		return
	}
	if c.moved++; c.moved < recentTicks {
		return
	}
	c.moved = 0
	c.unsettle()
	c.want(taskSettle)
}

// unsettle forgets what the node knew about its own address.
func (c *core) unsettle() {
	c.unsettled = true
	c.firewalled = c.cfg.Firewalled == nil || *c.cfg.Firewalled
	if !c.ephemeral {
		c.ephemeral = true
		c.emit(EventEphemeral, netip.AddrPort{})
	}
	c.stable, c.lastIP = stableTicks, netip.Addr{}
	c.strange = nil
	for n := range c.table.All() {
		n.Data.sampled = 0
	}
	c.newNAT(new(nat.Sampler))
	if c.cfg.Public.IsValid() {
		c.sampleNAT(netip.AddrPort{}, c.cfg.Public)
	}
}

// pingSome checks the nodes that were heard from longest ago.
func (c *core) pingSome() {
	n := c.table.Oldest()
	if n == nil {
		c.want(taskRefresh)
		return
	}
	budget := roundPings
	if c.calls.Len() > 2 {
		budget = 3
	}
	if c.tick-n.Data.pinged < recentTicks {
		budget = 2
	}
	for ; n != nil && budget > 0 && n.Data.pinged != c.tick; budget-- {
		next := n.Newer()
		c.checkNode(n, false)
		n = next
	}
}

// pingRandom checks some nodes between the rounds, more of a persistent node's
// table, on which others rely, and more the more have gone since the last tick: of
// many that have died at once, one is soon met, and that leads to the others. If
// nobody answers, nobody leaves.
func (c *core) pingRandom() {
	n := tickPings / 2
	if !c.ephemeral {
		n = tickPings
	}
	n += moreChecks * c.gone
	if c.gone = 0; n <= tickPings && c.calls.Len() > 2 {
		return
	}
	for range min(n, maxSuspect) {
		if n := c.table.Random(c.rand); n != nil && c.tick-n.Data.pinged >= 2 {
			c.checkNode(n, true)
		}
	}
}

// refreshTarget is what the next refresh looks for: a random node of the table,
// our own place if there is none.
func (c *core) refreshTarget() ID {
	if n := c.table.Random(c.rand); n != nil {
		return n.ID
	}
	return c.table.Own()
}

// wakeup forgets what may have changed while nothing was heard. An adaptive
// node that was persistent is ephemeral again until it has proved itself.
func (c *core) wakeup() {
	c.tick += moreStableTicks
	c.tick = c.tick - c.tick%pingTicks + pingTicks - 2 // a ping round comes two ticks later
	c.stable = moreStableTicks
	c.refresh = 1
	c.lastIP = netip.Addr{}
	if c.health.down || c.health.degraded {
		c.emit(EventNetworkUpdate, netip.AddrPort{})
	}
	c.health = health{}
	if c.cfg.Ephemeral == Auto && !c.ephemeral {
		c.ephemeral = true
		c.emit(EventEphemeral, netip.AddrPort{})
	}
	c.silent = newSilent() // it may have been us
	c.emit(EventWakeup, netip.AddrPort{})
}

// rebase builds the table anew around the id of a public address.
// docs/spec/dht-rpc.md §6.9.
func (c *core) rebase(public netip.AddrPort) (moved bool) {
	id := IDOf(public)
	if id == c.table.Own() {
		return false
	}
	for _, n := range c.table.Rebase(id) {
		c.emit(EventNodeRemoved, n.Addr)
	}
	return true
}

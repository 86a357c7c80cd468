package dhtrpc

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/warren-dht/warren/nat"
)

// probes is the number of nodes that test our reachability, and probesNeeded
// how many of them must reach us.
const (
	probes       = 5
	probesNeeded = 3
)

// updateNetworkState is the procedure by which a node stops being firewalled
// and, unless firewallOnly, becomes persistent: it knows its public address,
// and others reach its server socket there. It reports whether anything came of
// it. docs/spec/dht-rpc.md §6.9.
func (n *Node) updateNetworkState(ctx context.Context, firewallOnly bool) bool {
	if n.probing.Acquire(ctx, 1) != nil {
		return false
	}
	defer n.probing.Release(1)

	n.enter()
	c := n.core
	public := publicAddr(c.nat)
	if !c.ephemeral || firewallOnly && !c.firewalled {
		n.leave()
		return false
	}
	if !firewallOnly {
		c.stable, c.lastIP = moreStableTicks, public.Addr()
	}
	firewalled := c.firewalled
	sampler := c.nat
	n.leave()

	if !public.Addr().IsValid() || public.Port() == 0 {
		return false
	}
	if firewalled {
		sampler = new(nat.Sampler)
		if n.checkFirewalled(ctx, sampler, public.Addr()) {
			return false
		}
	}

	n.enter()
	defer n.leave()
	if ctx.Err() != nil {
		return false
	}
	c.firewalled = false // requests leave through the server socket now
	at, ok := sampler.AddrPort()
	if !c.ephemeral || publicAddr(c.nat) != public || !ok || at.Addr() != public.Addr() {
		return false
	}
	if !firewallOnly {
		c.ephemeral = false // messages bear our id now
	}
	if sampler != c.nat {
		c.strange = nil
		c.newNAT(sampler)
	}
	if c.rebase(at) && c.bootstrapped {
		c.want(taskRefresh)
	}
	if !firewallOnly {
		c.emit(EventPersistent, at)
	}
	return true
}

// checkFirewalled lets up to five nodes send something to the server socket,
// which has never sent anything itself, and adds to the sampler how those that
// got through see it. It reports whether the node is firewalled: too few got
// through, or not to the host and port expected. docs/spec/dht-rpc.md §6.8.
func (n *Node) checkFirewalled(ctx context.Context, s *nat.Sampler, host netip.Addr) bool {
	asked := n.newest(probes)
	if len(asked) < probes {
		for _, a := range n.boot.all(ctx, len(asked) > 0) {
			asked = append(asked, contactOf(a))
		}
	}

	n.enter()
	c := n.core
	if ctx.Err() != nil {
		n.leave()
		return true
	}
	port := c.server.LocalAddr().Port()
	// What we ask ourselves proves nothing, and the list of bootstrap nodes may
	// hold ourselves.
	asked = slices.DeleteFunc(asked, func(x Contact) bool {
		return c.isOwn(x.Addr) || x.Addr == netip.AddrPortFrom(host, port)
	})
	if len(asked) == 0 {
		n.leave()
		return true
	}
	c.heard = map[netip.Addr]bool{}
	value := binary.LittleEndian.AppendUint16(nil, port)
	answers := make(chan Reply, len(asked)) // the zero Reply if there is none
	var group requests
	for _, to := range asked {
		c.heard[to.Addr.Addr()] = false
		m := request{internal: true, command: cmdPingNAT, value: value}
		// Without the destination's id: that our firewall kept the answer out is no
		// reason to take the node for dead, as the reference does.
		o := outgoing{to: to.Addr, conn: c.client, done: func(r *Reply, err error) {
			if r == nil {
				answers <- Reply{}
			} else {
				answers <- r.clone()
			}
		}}
		if _, err := c.request(&m, o, defaultRetries, &group); err != nil {
			answers <- Reply{}
		}
	}
	n.leave()

	needed := 1
	if len(asked) >= probes {
		needed = probesNeeded
	}
	reached, began := 0, time.Now()
	var enough <-chan time.Time // when enough have got through, the others are waited for a little longer
wait:
	for range asked {
		select {
		case r := <-answers:
			n.mu.Lock()
			through := c.heard[r.From.Addr()]
			n.mu.Unlock()
			if !through {
				continue
			}
			s.Add(r.To)
			if reached++; reached == needed {
				enough = time.After(max(3*time.Since(began), 50*time.Millisecond))
			}
		case <-enough:
			break wait
		case <-ctx.Done():
			break wait
		}
	}
	n.enter()
	c.cancel(&group, context.Canceled)
	c.heard = nil
	n.leave()

	at, ok := s.AddrPort()
	return reached < needed || !ok || at.Addr() != host || at.Port() != port
}

// newest returns the contacts heard from last.
func (n *Node) newest(max int) (out []Contact) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for x := range n.core.table.All() {
		if len(out) == max {
			break
		}
		out = append(out, x.Contact)
	}
	return out
}

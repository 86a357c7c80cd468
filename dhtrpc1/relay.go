package dhtrpc1

import (
	"net/netip"
	"slices"
	"time"

	"github.com/warren-dht/warren/kad"
)

// Hole punching with a referrer, in the place of a STUN server
// (docs/spec/dht-rpc-v2.md §8). All three messages are a _ping with one
// transaction id:
//
//	A → R   request   forwardRequest = B
//	R → B   request   forwardResponse = A as R sees it
//	B → A   response  straight, which opens B's NAT towards A

// relay passes a ping on, if it is one and may go there. The requester gets no
// answer from us.
func (c *core) relay(now time.Time, from netip.AddrPort, r *request) {
	to, err := parsePeer(r.forwardRequest)
	if err != nil || r.command != commandPing || !c.forwardable(now, from.Addr(), to) {
		c.stats.Refused++
		return
	}
	r.forwardRequest, r.forwardResponse = nil, appendPeer(nil, from)
	b := r.Append(nil)
	if len(b) > MaxDatagram {
		c.stats.Refused++
		return
	}
	c.stats.Relayed++
	c.log.Debug("relay for hole punching", "from", from, "to", to)
	c.send(to, b)
}

// relayedFor returns whom a relayed ping is to be answered to. Since it makes us
// send to a third party it is limited, and for pings only.
func (c *core) relayedFor(now time.Time, from netip.AddrPort, r *request) (netip.AddrPort, bool) {
	to, err := parsePeer(r.forwardResponse)
	return to, err == nil && r.command == commandPing && c.forwardable(now, from.Addr(), to)
}

// forwardable tells whether a message that came from one address may make us
// send to another: not to ourselves, not from outside into a private network,
// and not too often.
func (c *core) forwardable(now time.Time, from netip.Addr, to netip.AddrPort) bool {
	return sendable(to) && scope(to.Addr()) >= scope(from) &&
		!slices.Contains(c.own, to) && c.relays.allow(now, from)
}

// scope is how far an address reaches: this host, this network, everywhere.
func scope(a netip.Addr) int {
	if a.IsLoopback() {
		return 0
	}
	if _, public := kad.Subnet(a); !public {
		return 1
	}
	return 2
}

// A relayLimit allows so many relayed messages a second for each source and for
// all. The zero value is ready for use.
type relayLimit struct {
	since time.Time
	total int
	hosts map[netip.Addr]int // at most relayTotal
}

func (l *relayLimit) allow(now time.Time, from netip.Addr) bool {
	if l.hosts == nil || now.Sub(l.since) >= time.Second {
		l.since, l.total, l.hosts = now, 0, map[netip.Addr]int{}
	}
	if l.total >= relayTotal || l.hosts[from] >= relayPerHost {
		return false
	}
	l.total++
	l.hosts[from]++
	return true
}

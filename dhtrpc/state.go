package dhtrpc

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"

	"github.com/warren-dht/warren/udp"
)

// read runs f under the lock.
func read[T any](n *Node, f func(*core) T) T {
	n.mu.Lock()
	defer n.mu.Unlock()
	return f(n.core)
}

// ID returns the node's id; ok is false while it is ephemeral.
func (n *Node) ID() (id ID, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.core.ephemeral {
		return ID{}, false
	}
	return n.core.table.Own(), true
}

// TableID returns the id that the routing table is built around: random at
// first, the node's own once its public address is known.
func (n *Node) TableID() ID { return read(n, func(c *core) ID { return c.table.Own() }) }

// Ephemeral reports whether the node is not persistent: it bears no id and is
// not listed by others.
func (n *Node) Ephemeral() bool { return read(n, func(c *core) bool { return c.ephemeral }) }

// Firewalled reports whether the node must be taken for unreachable by
// strangers.
func (n *Node) Firewalled() bool { return read(n, func(c *core) bool { return c.firewalled }) }

// Bootstrapped reports whether the node is ready.
func (n *Node) Bootstrapped() bool { return read(n, func(c *core) bool { return c.bootstrapped }) }

// Suspended reports whether the node is suspended.
func (n *Node) Suspended() bool { return read(n, func(c *core) bool { return c.suspended }) }

// Closed reports whether Close was called.
func (n *Node) Closed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed
}

// PublicAddr is the address at which others see the node. Its host is invalid
// if there is no opinion about it, its port 0 if it differs from peer to peer.
func (n *Node) PublicAddr() netip.AddrPort {
	return read(n, func(c *core) netip.AddrPort { return publicAddr(c.nat) })
}

// Randomized reports whether the node's public port differs from peer to peer,
// as behind a NAT with address-and-port-dependent mapping.
func (n *Node) Randomized() bool { return read(n, func(c *core) bool { return c.nat.Randomized() }) }

// RemoteAddr is the public address if strangers can reach the server socket
// there; ok is false otherwise.
func (n *Node) RemoteAddr() (a netip.AddrPort, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.core
	a, ok = c.nat.AddrPort()
	if !ok || c.firewalled || c.suspended || a.Port() != c.server.LocalAddr().Port() {
		return netip.AddrPort{}, false
	}
	return a, true
}

// Conn is the socket that requests use now: the client one while the node is
// firewalled, else the server one.
func (n *Node) Conn() udp.Conn { return read(n, (*core).conn) }

// ServerConn is the server socket. After a suspension it is another one.
func (n *Node) ServerConn() udp.Conn { return read(n, func(c *core) udp.Conn { return c.server }) }

// ClientConn is the client socket. After a suspension it is another one.
func (n *Node) ClientConn() udp.Conn { return read(n, func(c *core) udp.Conn { return c.client }) }

// Addr is the bound address of the socket that requests use now.
func (n *Node) Addr() netip.AddrPort { return n.Conn().LocalAddr() }

// LocalAddr is where hosts of the local network reach the server socket: its
// port at the bound address or, if that is 0.0.0.0, at this machine's first IPv4
// address that is not a loopback one, 127.0.0.1 if there is none.
func (n *Node) LocalAddr() netip.AddrPort {
	a := n.ServerConn().LocalAddr()
	if !a.Addr().IsUnspecified() {
		return a
	}
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	addrs, err := n.cfg.Network.Addrs()
	if err == nil {
		for _, ip := range addrs {
			if ip.Is4() && !ip.IsLoopback() {
				host = ip
				break
			}
		}
	}
	return netip.AddrPortFrom(host, a.Port())
}

// Network is the network that the node was made with.
func (n *Node) Network() udp.Network { return n.cfg.Network }

// Online reports whether requests are answered, or too few were made to tell.
func (n *Node) Online() bool { return read(n, func(c *core) bool { return !c.health.down }) }

// Degraded reports whether more than half of the requests go unanswered.
func (n *Node) Degraded() bool { return read(n, func(c *core) bool { return c.health.degraded }) }

// Health returns what the node thinks of its connection.
func (n *Node) Health() Health {
	return read(n, func(c *core) Health {
		h := Health{Online: !c.health.down, Degraded: c.health.degraded, Cold: c.health.cold()}
		h.Responses, h.Timeouts = c.health.last()
		h.Idle = h.Responses+h.Timeouts < healthIdle
		return h
	})
}

// Stats returns the counters.
func (n *Node) Stats() Stats {
	return read(n, func(c *core) Stats {
		s := c.stats
		s.Queries.Active, s.Requests.Active, s.Nodes, s.Checks = len(c.queries), c.calls.Len(), c.table.Len(), c.checks
		return s
	})
}

// AddNode puts a known node into the routing table. It returns ErrBadAddress
// unless that is an IPv4 address with a port.
func (n *Node) AddNode(a netip.AddrPort) error {
	if !addressable(a) {
		return fmt.Errorf("dhtrpc: add node %v: %w", a, ErrBadAddress)
	}
	n.enter()
	defer n.leave()
	n.core.addNode(a)
	return nil
}

// Nodes returns the nodes of the routing table, newest heard from first.
func (n *Node) Nodes() []Contact {
	return read(n, func(c *core) []Contact {
		out := make([]Contact, 0, c.table.Len())
		for x := range c.table.All() {
			out = append(out, x.Contact)
		}
		return out
	})
}

// Closest returns the at most k nodes of the routing table that are closest to
// a target, nearest first.
func (n *Node) Closest(target ID, k int) []Contact {
	return read(n, func(c *core) []Contact {
		near := c.table.Closest(nil, target, k)
		out := make([]Contact, len(near))
		for i, x := range near {
			out[i] = x.Contact
		}
		return out
	})
}

// Refresh looks for nodes near a random place that the table knows, in the
// background, as the node itself does every five minutes.
func (n *Node) Refresh() {
	n.enter()
	defer n.leave()
	n.core.want(taskRefresh)
}

// SaveNodes writes the addresses of the routing table, a line each, newest
// heard from first. A node given them again ([ReadNodes], Config.Nodes) needs no
// bootstrap node. Do not mix them with the bootstrap nodes of another network.
func (n *Node) SaveNodes(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, c := range n.Nodes() {
		fmt.Fprintln(b, c.Addr)
	}
	return b.Flush()
}

// ReadNodes reads what SaveNodes wrote. At most 10,000 lines are read.
func ReadNodes(r io.Reader) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for s := bufio.NewScanner(r); ; {
		if !s.Scan() || len(out) == 10000 {
			return out, s.Err()
		}
		a, err := netip.ParseAddrPort(s.Text())
		if err != nil || !addressable(a) {
			return nil, fmt.Errorf("dhtrpc: saved node %d: %q: %w", len(out)+1, s.Text(), ErrBadAddress)
		}
		out = append(out, a)
	}
}

package dhtrpc1

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A Pong is the answer to a ping.
type Pong struct {
	// Observed is our address as the other sees it (a reflexive address, RFC 5389).
	Observed netip.AddrPort
	// Addr is whence the answer came.
	Addr netip.AddrPort
	// ID is the other's id if HasID is set; ephemeral nodes have none.
	ID    ID
	HasID bool
}

// Ping asks a node for its id and for our address.
func (n *Node) Ping(ctx context.Context, addr netip.AddrPort) (Pong, error) {
	if addr = unmapped(addr); !sendable(addr) {
		return Pong{}, ErrAddress
	}
	a := &ask{to: addr, req: request{command: commandPing}}
	return n.pong(ctx, a, nil)
}

// Holepunch has the referrer ask a peer behind a NAT to answer us, which opens
// the peer's NAT towards us; ours has been opened by a ping that goes straight
// to the peer before. The referrer must have heard from the peer. The answer is
// the peer's.
func (n *Node) Holepunch(ctx context.Context, peer, referrer netip.AddrPort) (Pong, error) {
	peer, referrer = unmapped(peer), unmapped(referrer)
	if !sendable(peer) || !sendable(referrer) {
		return Pong{}, ErrAddress
	}
	opener := &ask{to: peer, req: request{command: commandPing}, done: func(time.Time, answer) {}}
	a := &ask{to: referrer, relayed: true}
	a.req = request{command: commandPing, forwardRequest: appendPeer(nil, peer)}
	return n.pong(ctx, a, opener)
}

// pong submits a ping, after another one of which nothing is expected if first
// is not nil, and waits for the answer.
func (n *Node) pong(ctx context.Context, a, first *ask) (Pong, error) {
	answers := make(chan answer, 1)
	a.done = func(_ time.Time, r answer) { answers <- r }
	err := n.do(ctx, func(c *core, now time.Time) {
		if first != nil {
			first.req.id = c.ownID()
			c.submit(now, first)
		}
		a.req.id = c.ownID()
		c.submit(now, a)
	})
	if err != nil {
		return Pong{}, err
	}
	select {
	case r := <-answers:
		return readPong(r)
	case <-ctx.Done():
		n.do(context.Background(), func(c *core, now time.Time) { c.cancel(now, a) })
		return Pong{}, ctx.Err()
	case <-n.closing:
		return Pong{}, ErrClosed
	}
}

func readPong(r answer) (Pong, error) {
	if r.err != nil {
		return Pong{}, r.err
	}
	p := Pong{Addr: r.from}
	var err error
	if p.Observed, err = parsePeer(r.res.value); err != nil {
		return Pong{}, ErrInvalidPong
	}
	if r.res.id != nil {
		p.ID, p.HasID = ID(r.res.id), true
	}
	return p, nil
}

// ResolveAddr reads an address as the reference does: "host:port", "host" with
// [DefaultPort], ":port" or "port" on 127.0.0.1. A host name is looked up.
func ResolveAddr(ctx context.Context, s string) (netip.AddrPort, error) {
	host, port, found := strings.Cut(s, ":")
	if _, err := strconv.ParseUint(host, 10, 16); err == nil && !found {
		host, port, found = "", host, true
	}
	num := uint64(DefaultPort)
	if found {
		var err error
		if num, err = strconv.ParseUint(port, 10, 16); err != nil || num == 0 {
			return netip.AddrPort{}, fmt.Errorf("%w: %q", ErrAddress, s)
		}
	}
	if host == "" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("dhtrpc1: %w", err)
		}
		ip = ips[0].Unmap()
	}
	addr := netip.AddrPortFrom(ip, uint16(num))
	if !sendable(addr) {
		return netip.AddrPort{}, fmt.Errorf("%w: %q", ErrAddress, s)
	}
	return addr, nil
}

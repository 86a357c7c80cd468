package dhtrpc

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/kad"
	"github.com/warren-dht/warren/udp"
)

// serve answers a request of another node. The order is the protocol's: the
// token, the routing table, the command (docs/spec/dht-rpc.md §3, §4).
func (c *core) serve(conn udp.Conn, from netip.AddrPort, m *request) {
	if m.token != nil && !c.secrets.Valid(c.now, from.Addr(), m.token[:]) {
		c.stats.Refused.Tokens++
		c.respond(conn, from, &reply{tid: m.tid, code: uint64(InvalidToken)}, m.target, true, false)
		return
	}
	id := c.prove(from, m.id)
	if id != nil {
		c.noteUnasked(conn, Contact{ID: *id, Addr: from}, m.to)
	}
	if s := c.stats.command(m.internal, m.command); s != nil {
		s.Served++
	}
	if m.internal {
		c.serveInternal(conn, from, m)
		return
	}
	if c.cfg.Handler != nil && c.serveUser(conn, from, id, m) {
		return
	}
	c.unknown(conn, from, m)
}

// serveInternal obeys the protocol's own commands (docs/spec/dht-rpc.md §4).
// None of their replies holds a token or a value, and what lacks its argument
// is not answered.
func (c *core) serveInternal(conn udp.Conn, from netip.AddrPort, m *request) {
	out := reply{tid: m.tid}
	switch m.command {
	case cmdPing:
		c.respond(conn, from, &out, nil, false, false)
	case cmdPingNAT:
		if len(m.value) < 2 {
			return
		}
		port := binary.LittleEndian.Uint16(m.value)
		if port == 0 {
			return
		}
		c.respond(conn, netip.AddrPortFrom(from.Addr(), port), &out, nil, false, false)
	case cmdFindNode:
		if m.target != nil {
			c.respond(conn, from, &out, m.target, false, false)
		}
	case cmdDownHint:
		if len(m.value) < compact.AddrSize {
			return
		}
		r := compact.NewReader(m.value)
		c.hintedDown(from, r.Addr())
		c.respond(conn, from, &out, nil, false, false)
	case cmdDelayedPing:
		if len(m.value) < 4 {
			return
		}
		delay := time.Duration(binary.LittleEndian.Uint32(m.value)) * time.Millisecond
		if delay > c.cfg.MaxPingDelay {
			return
		}
		if !c.delayed.add(c.now.Add(delay), conn, from, m.tid, c.cfg.Limits) {
			c.stats.Refused.Limits++
		}
	default:
		c.unknown(conn, from, m)
	}
}

// unknown says that a command is not known.
func (c *core) unknown(conn udp.Conn, from netip.AddrPort, m *request) {
	c.respond(conn, from, &reply{tid: m.tid, code: uint64(UnknownCommand)}, m.target, false, false)
}

// respond sends a reply with what every reply bears: the receiver's address,
// our id if the socket shows it, closer nodes if there is a target, a token for
// the receiver if asked. Only a verified receiver gets more than MaxReply
// bytes, or any number of large replies; one that is too long loses closer nodes
// first.
func (c *core) respond(conn udp.Conn, to netip.AddrPort, m *reply, target *ID, withToken, verified bool) error {
	m.to = to
	m.id = c.idOn(conn)
	if withToken {
		c.token = c.secrets.Issue(c.now, to.Addr())
		m.token = &c.token
	}
	if target != nil {
		m.closer = c.closest(target)
	}
	comfortable, limit := c.cfg.MaxReply, c.cfg.MaxReply
	var public netip.Prefix // of a source that may be forged
	if !verified {
		public, _ = kad.Subnet(to.Addr())
	}
	size := m.size()
	if !public.IsValid() {
		comfortable, limit = max(limit, comfortableSize), MaxMessage
	}
	if size > comfortable && !m.fit(comfortable, limit) || public.IsValid() && size > freeFactor*c.asked && !c.amplifies(m, public) {
		c.stats.Refused.TooLarge++
		return ErrTooLarge
	}
	start := len(c.out.buf)
	c.out.buf = m.append(c.out.buf)
	c.out.add(conn, to, 0, start)
	return nil
}

// fit drops as many closer nodes as the reply is larger than comfortable, and
// reports whether it is within the limit then.
func (m *reply) fit(comfortable, limit int) bool {
	over := max(m.size()-comfortable, 0)
	drop := min((over+compact.AddrSize-1)/compact.AddrSize, m.closer.Len())
	m.closer = compact.AddrsOf(m.closer.Bytes()[:compact.AddrSize*(m.closer.Len()-drop)])
	return m.size() <= limit
}

// freeFactor times its request is what a reply may have without a limit.
const freeFactor = 4

// amplifies lets a reply that is large for its request pass, to a public source
// that may be forged, if its network has not had too much of that, or it can be
// made smaller.
func (c *core) amplifies(m *reply, to netip.Prefix) bool {
	free := freeFactor * c.asked
	excess := m.size() - free
	if excess <= 0 || c.unproven == nil || c.unproven.Of(to).AllowN(c.now, excess) {
		return true
	}
	c.stats.Refused.Limits++
	bare := *m
	bare.value, bare.closer = nil, compact.Addrs{}
	free = max(free, bare.size())
	return m.fit(free, free)
}

// closest returns the addresses of the nodes closest to target, nearest first,
// in a buffer of the core. The reference's order is by bucket; nearest first is
// better for its readers, which stop at the first that does not help them.
func (c *core) closest(target *ID) compact.Addrs {
	c.near = c.table.Closest(c.near[:0], *target, K)
	if len(c.suspects) > 0 {
		c.near = slices.DeleteFunc(c.near, func(n *kad.Node[ID, entry]) bool { return n.Data.suspect })
	}
	raw := c.nearRaw[:0]
	for _, n := range c.near {
		raw = compact.AppendAddr(raw, n.Addr)
	}
	return compact.AddrsOf(raw)
}

// exempt reports whether an address is free of limits: it is not a public one.
func exempt(ip netip.Addr) bool {
	_, limited := kad.Subnet(ip)
	return !limited
}

// Strangers may be able to make a handler panic again and again: the first alarms
// times are logged, then one in an alarmPeriod.
const (
	alarms      = 3
	alarmPeriod = time.Minute
)

// serveUser hands a request to the application and reports whether it knew the
// command: one that it has answered it did. A handler that panics is answered
// for with an error.
func (c *core) serveUser(conn udp.Conn, from netip.AddrPort, id *ID, m *request) (known bool) {
	r := &c.serving
	*r = Request{
		Command: m.command, Target: m.target, Value: m.value, Token: m.token,
		From: from, FromID: id, To: m.to, TID: m.tid, Conn: conn,
		core: c, size: c.asked,
	}
	defer func() {
		if p := recover(); p != nil {
			c.stats.Refused.Panics++
			if c.stats.Refused.Panics <= alarms || c.now.Sub(c.alarmed) >= alarmPeriod {
				c.alarmed = c.now
				command, log, stack := m.command, c.cfg.Logger, debug.Stack()
				c.after = append(c.after, func() {
					log.Error("dhtrpc: handler panicked", "command", command, "from", from, "panic", fmt.Sprint(p), "stack", string(stack))
				})
			}
			if !r.answered {
				c.unknown(conn, from, m)
			}
			known = true
		}
		*r = Request{}
	}()
	return c.cfg.Handler.ServeRPC(r) || r.answered
}

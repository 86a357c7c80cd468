package dhtrpc1

import (
	"net/netip"
	"time"
)

// onRequest answers a request, in the order of docs/spec/dht-rpc-v2.md §6.1.
func (c *core) onRequest(now time.Time, from netip.AddrPort, r *request) {
	// A relayed request comes from the referrer, but the id is that of the node
	// behind it; the reference stores the one with the address of the other.
	if r.id != nil && r.forwardResponse == nil {
		c.heard(now, Contact{ID: ID(r.id), Addr: from}, false)
	}
	// A wrong token makes a plain query of it, and the requester is not told.
	proven := r.token != nil && c.secrets.Valid(now, from.Addr(), r.token)
	if !proven {
		r.token = nil
	}
	if r.forwardRequest != nil {
		c.relay(now, from, r)
		return
	}
	to := from
	if r.forwardResponse != nil {
		var ok bool
		if to, ok = c.relayedFor(now, from, r); !ok {
			c.stats.Refused++
			return
		}
	}
	switch {
	case r.command == commandPing:
		c.respond(now, to, response{tid: r.tid, value: appendPeer(nil, to)})
	case r.target == nil:
		c.stats.Refused++
	case r.command == commandFindNode:
		c.respond(now, to, response{tid: r.tid, nodes: c.listNodes(ID(r.target), 0)})
	default:
		c.serve(now, from, r, proven)
	}
}

// respond sends a response with our id and a fresh token for the receiver.
func (c *core) respond(now time.Time, to netip.AddrPort, r response) {
	t := c.secrets.Issue(now, to.Addr())
	r.id, r.token = c.ownID(), t[:]
	c.send(to, r.Append(nil))
}

// listNodes is the compact list of the nodes closest to target, shortened so
// that a response has room for size bytes of value.
func (c *core) listNodes(target ID, size int) []byte {
	n := min(K, (MaxDatagram-responseOverhead-size)/nodeSize)
	return appendNodes(nil, c.closest(target, max(n, 0)))
}

// responseOverhead is the size of a response but for nodes and value: header,
// id, token, and the keys and lengths of nodes and value.
const responseOverhead = headerSize + (2 + idSize) + (2 + 32) + 2*(1+2)

// serve hands a request to the handler. A node without one answers with the
// closest nodes alone.
func (c *core) serve(now time.Time, from netip.AddrPort, r *request, proven bool) {
	req := &Request{
		Addr:    from,
		Command: r.command,
		Target:  ID(r.target),
		Value:   r.value,
		Closest: proven,
		tid:     r.tid,
		since:   now,
		deliver: c.deliver,
	}
	if r.id != nil {
		req.ID, req.HasID = ID(r.id), true
	}
	if c.handler == nil {
		c.answer(now, req)
		return
	}
	if c.open >= maxOpen {
		c.stats.Refused++
		return
	}
	c.open++
	c.handler.ServeRPC(req)
	if req.state.Load() == requestOpen {
		c.unanswered = append(c.unanswered, req)
	}
}

// settle sends what a handler has answered, if anything.
func (c *core) settle(now time.Time, r *Request) {
	c.open--
	if r.state.Load() == requestReplied {
		c.answer(now, r)
	}
}

func (c *core) answer(now time.Time, r *Request) {
	c.respond(now, r.Addr, response{
		tid:   r.tid,
		nodes: c.listNodes(r.Target, len(r.reply)),
		value: r.reply,
	})
}

// forget gives up the requests that handlers have kept for too long.
func (c *core) forget(now time.Time) {
	keep := c.unanswered[:0]
	for _, r := range c.unanswered {
		switch {
		case r.state.Load() != requestOpen: // settled, or on the way to be
		case now.Sub(r.since) < openTimeout:
			keep = append(keep, r)
		case r.state.CompareAndSwap(requestOpen, requestExpired):
			c.open--
		}
	}
	clear(c.unanswered[len(keep):])
	c.unanswered = keep
}

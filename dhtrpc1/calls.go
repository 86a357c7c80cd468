package dhtrpc1

import (
	"bytes"
	"net/netip"
	"time"
)

// An ask is a request of ours. Owned by the node's loop once it is submitted.
type ask struct {
	to  netip.AddrPort
	req request
	// relayed: the answer comes from another host than the one asked, so it
	// can be known by its transaction id only.
	relayed bool
	// peer is the id that the answer must carry, if it carries one, of a
	// relayed ask; nil is any.
	peer *ID
	// done takes the outcome, on the loop, and must not wait. It is called
	// once, unless the ask is canceled before.
	done func(now time.Time, a answer)

	canceled bool
	tid      uint16
	flying   bool
}

// An answer is what came of an ask. The bytes of the response are its own.
type answer struct {
	from netip.AddrPort
	res  response
	err  error
}

// submit sends a request, or queues it while enough others are in flight.
func (c *core) submit(now time.Time, a *ask) {
	if len(c.queue) >= maxQueue {
		a.done(now, answer{err: ErrBusy})
		return
	}
	c.queue = append(c.queue, a)
	c.pump(now)
}

// pump sends the requests for which there is room. The reference does so only
// when a response comes, and stalls when none does any more.
func (c *core) pump(now time.Time) {
	for len(c.queue) > 0 && c.calls.Len() < c.concurrency {
		a := c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		if !a.canceled {
			c.start(now, a)
		}
	}
	if len(c.queue) == 0 {
		c.queue = nil // gives back what a burst took
	}
}

func (c *core) start(now time.Time, a *ask) {
	fly, ok := c.calls.Add(now, 0, a)
	if !ok {
		a.done(now, answer{err: ErrBusy})
		return
	}
	c.calls.Sent(fly, now, now.Add(requestTimeout))
	a.flying, a.tid, a.req.tid = true, fly.TID, fly.TID
	c.send(a.to, a.req.Append(nil))
}

// cancel ends an ask without an outcome.
func (c *core) cancel(now time.Time, a *ask) {
	a.canceled = true
	if !a.flying {
		return
	}
	if fly := c.calls.Get(a.tid); fly != nil && fly.Payload == a {
		c.calls.Remove(fly)
		c.pump(now)
	}
}

// onResponse completes the request that r answers. A relayed ping is matched by
// its transaction id alone; everybody else must answer from the address that
// was asked (docs/spec/dht-rpc-v2.md §14).
func (c *core) onResponse(now time.Time, from netip.AddrPort, r *response) {
	fly := c.calls.Get(r.tid)
	if fly == nil {
		c.stats.Unexpected++
		return
	}
	a := fly.Payload
	if !a.relayed && from != a.to || a.relayed && a.peer != nil && r.id != nil && !bytes.Equal(r.id, a.peer[:]) {
		c.stats.Unexpected++
		return
	}
	c.calls.Remove(fly)
	if r.id != nil && !a.relayed {
		c.heard(now, Contact{ID: ID(r.id), Addr: from}, true)
	}
	a.done(now, answer{from: from, res: *r})
	c.pump(now)
}

// expire fails the requests whose time is over.
func (c *core) expire(now time.Time) {
	for fly := range c.calls.Expired(now) {
		c.calls.Remove(fly)
		c.stats.Timeouts++
		fly.Payload.done(now, answer{err: ErrTimeout})
	}
	c.pump(now)
}

// ping sends a _ping.
func (c *core) ping(now time.Time, to netip.AddrPort, done func(time.Time, answer)) {
	c.submit(now, &ask{to: to, req: request{command: commandPing, id: c.ownID()}, done: done})
}

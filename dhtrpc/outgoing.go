package dhtrpc

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/internal/call"
	"github.com/warren-dht/warren/udp"
)

// Transmissions after the first (docs/spec/dht-rpc.md §5.3).
const (
	defaultRetries = 3
	queryRetries   = 5
)

// A query's visit is repeated as soon as its answer takes longer than almost all
// others have, and its destination is late when the second one does too: twice
// soonLeast at least, a second at most. In the reference it is a second, whatever
// the network. Later repetitions keep the usual pace.
const soonLeast = 250 * time.Millisecond

// patientSends is how many transmissions a query makes that waits for nothing
// else any more.
const patientSends = 3

// errGivenUp: a query did not wait any longer for an answer.
var errGivenUp = fmt.Errorf("dhtrpc: given up: %w", ErrTimeout)

// An outgoing is what the node remembers of a request that it made.
type outgoing struct {
	to       netip.AddrPort
	id       ID // of the destination; a timeout evicts it from the table
	hasID    bool
	internal bool
	command  uint64
	conn     udp.Conn
	ttl      uint8
	timeout  time.Duration // of each transmission; 0: the default
	// If maxTimeout is not 0, timeout is the first transmission's; it doubles
	// with each, up to maxTimeout.
	maxTimeout time.Duration
	data       []byte // the same bytes for every transmission
	// onSlow, if not nil, is called once, when the destination is late.
	onSlow func()
	// hopeful, if not nil, says whether it is worth while to go on when
	// patientSends transmissions have not been answered.
	hopeful func() bool
	done    func(*Reply, error)

	session    *requests // nil, or the group that is cancelled together
	prev, next *inflight // in it
}

// An inflight is a request in flight. (Transmissions that wait for the window
// count as in flight.)
type inflight = call.Call[outgoing]

// requests is a group of requests in flight, cancelled together. Owned by the
// core.
type requests struct{ first *inflight }

func (g *requests) add(p *inflight) {
	p.Payload.session, p.Payload.next = g, g.first
	if g.first != nil {
		g.first.Payload.prev = p
	}
	g.first = p
}

func (g *requests) remove(p *inflight) {
	if prev := p.Payload.prev; prev != nil {
		prev.Payload.next = p.Payload.next
	} else {
		g.first = p.Payload.next
	}
	if next := p.Payload.next; next != nil {
		next.Payload.prev = p.Payload.prev
	}
	p.Payload.prev, p.Payload.next, p.Payload.session = nil, nil, nil
}

// request makes a request and transmits it, or lets it wait for the window.
// Done is called once, with the answer or an error, under the lock; never if
// request itself fails. The Reply it gets is borrowed.
func (c *core) request(m *request, o outgoing, retries int, g *requests) (*inflight, error) {
	switch {
	case c.suspended:
		return nil, ErrSuspended
	case !addressable(o.to):
		return nil, ErrBadAddress
	case m.command > compact.MaxUint:
		return nil, ErrTooLarge
	}
	if o.conn == nil {
		o.conn = c.conn()
	}
	m.to = o.to
	m.id = c.idOn(o.conn)
	if m.size() > MaxMessage {
		return nil, ErrTooLarge
	}
	o.internal, o.command = m.internal, m.command
	p, ok := c.calls.Add(c.now, retries, o)
	if !ok {
		return nil, ErrBusy
	}
	m.tid = p.TID
	p.Payload.data = m.append(make([]byte, 0, m.size()))
	if g != nil {
		g.add(p)
	}
	c.stats.Requests.Total++
	if s := c.stats.command(m.internal, m.command); s != nil {
		s.Tx++
	}
	c.submit(p)
	return p, nil
}

// submit transmits a request if the window has room for it after those that
// wait already, else queues it.
func (c *core) submit(p *inflight) {
	c.window.advance(c.now)
	c.pump()
	if !c.window.full() {
		c.transmit(p)
		return
	}
	if len(c.queue) > 2*c.calls.Len() { // most have ended meanwhile
		c.queue = slices.DeleteFunc(c.queue, (*inflight).Done)
	}
	c.queue = append(c.queue, p)
}

func (c *core) transmit(p *inflight) {
	o := &p.Payload
	c.window.sent()
	start := len(c.out.buf)
	c.out.buf = append(c.out.buf, o.data...)
	c.out.add(o.conn, o.to, o.ttl, start)
	wait := o.timeout
	switch {
	case o.maxTimeout > 0:
		wait = min(wait<<min(p.Sent, 20), o.maxTimeout)
	case wait > 0:
	case c.timing != nil:
		wait = c.timing.timeout(c.now, o.to, p.Sent+1, c.rand.Float64())
	default:
		wait = requestTimeout
		if soon := c.rtt.Late(soonLeast, requestTimeout); o.onSlow != nil && p.Sent < 2 && soon <= requestTimeout/2 {
			wait = soon
		}
	}
	c.calls.Sent(p, c.now, c.now.Add(wait))
}

// pump transmits what waits while the window has room. Requests that have ended
// meanwhile are skipped.
func (c *core) pump() {
	if len(c.queue) == 0 {
		return
	}
	c.window.advance(c.now)
	for len(c.queue) > 0 && !c.window.full() {
		p := c.queue[0]
		c.queue[0] = nil
		if c.queue = c.queue[1:]; len(c.queue) == 0 {
			c.queue = nil
		}
		if !p.Done() {
			c.transmit(p)
		}
	}
}

// expire transmits again, or ends, requests whose time is over.
func (c *core) expire() {
	for p := range c.calls.Expired(c.now) {
		if slow := p.Payload.onSlow; slow != nil && (p.Sent > 1 || p.Exhausted() || c.now.Sub(p.Last) >= requestTimeout) {
			p.Payload.onSlow = nil
			if slow(); p.Done() {
				continue
			}
		}
		again, err := !p.Exhausted(), ErrTimeout
		if again && p.Sent >= patientSends && p.Payload.hopeful != nil && !p.Payload.hopeful() {
			again, err = false, errGivenUp
		}
		if again {
			c.stats.Requests.Retries++
			if s := c.stats.command(p.Payload.internal, p.Payload.command); s != nil {
				s.Retries++
			}
			c.submit(p)
			continue
		}
		c.stats.Requests.Timeouts++
		if s := c.stats.command(p.Payload.internal, p.Payload.command); s != nil {
			s.Timeouts++
		}
		o := p.Payload
		c.end(p, nil, err)
		if o.hasID && err != errGivenUp {
			c.removeNode(o.id)
		}
	}
}

// answered takes a reply. It is matched by its transaction id, which cannot be
// guessed; that of an internal command must come from the node asked too, that
// of a user command may have been relayed (docs/spec/dht-rpc.md §5.3).
func (c *core) answered(conn udp.Conn, from netip.AddrPort, m *reply) {
	p := c.calls.Get(m.tid)
	if p == nil || p.Sent == 0 {
		c.stats.Bad.Unexpected++
		return
	}
	o := &p.Payload
	if o.internal && o.to != from {
		c.stats.Bad.Foreign++
		return
	}
	rtt := c.now.Sub(p.Created)
	if p.Sent <= 2 && from == o.to && (!o.internal || o.command != cmdDelayedPing) {
		c.rtt.Sample(rtt)
		if c.timing != nil {
			c.timing.put(c.now, from, rtt)
		}
	}
	c.stats.Requests.Responses++
	c.answeredAt = c.now
	if c.silent.Len() > 0 {
		c.silent.Delete(from)
	}
	if s := c.stats.command(o.internal, o.command); s != nil {
		s.Rx++
		if m.code != 0 {
			s.Errors++
		}
	}
	id := c.prove(from, m.id)
	if from == o.to {
		c.noteReply(conn, from, id, m.to)
	} else if id != nil { // relayed, or forged by the node asked
		c.noteUnasked(conn, Contact{ID: *id, Addr: from}, m.to)
	}
	c.reply = Reply{
		From: from, FromID: id, To: m.to, TID: m.tid, RTT: rtt, Conn: conn,
		Token: m.token, Error: ErrorCode(m.code), Value: m.value, closer: m.closer, withheld: m.withheld,
	}
	c.end(p, &c.reply, nil)
	c.reply = Reply{}
	c.pump()
}

// end ends a request and tells whoever made it.
func (c *core) end(p *inflight, r *Reply, err error) {
	if p.Done() {
		return
	}
	c.calls.Remove(p)
	if p.Sent > 0 {
		c.window.advance(c.now)
		c.window.received()
	}
	if p.Payload.session != nil {
		p.Payload.session.remove(p)
	}
	done := p.Payload.done
	p.Payload.data, p.Payload.done, p.Payload.onSlow = nil, nil, nil
	if done != nil {
		done(r, err)
	}
}

// cancel ends all requests of a group.
func (c *core) cancel(g *requests, err error) {
	for g.first != nil {
		c.end(g.first, nil, err)
	}
}

// cancelAll ends all requests.
func (c *core) cancelAll(err error) {
	for p := range c.calls.All() {
		c.end(p, nil, err)
	}
	c.queue = nil
	c.window.clear()
}

// ping asks a node for a sign of life. Its timeout evicts nobody by itself.
func (c *core) ping(to netip.AddrPort, retries int, done func(*Reply, error)) error {
	_, err := c.request(&request{internal: true, command: cmdPing}, outgoing{to: to, done: done}, retries, nil)
	return err
}

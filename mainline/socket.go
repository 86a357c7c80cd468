package mainline

import (
	"net/netip"
	"time"

	"github.com/warren-dht/warren/internal/call"
	"github.com/warren-dht/warren/internal/keep"
	"github.com/warren-dht/warren/internal/token"
	"github.com/warren-dht/warren/udp"
)

// Timeouts of a query (docs/spec/mainline.md §9.2). A walk's query is sent once.
// When it is late (rtt.slow) the walk may ask another node beside, when it has
// stalled (rtt.patience) the walk may end without it, and until giveUp its answer
// is still taken. One that has to arrive (a ping of upkeep, announce_peer, put)
// is sent a second time.
const (
	resendAfter = 1500 * time.Millisecond
	giveUp      = 3 * time.Second
)

// maxSilent bounds the addresses that are remembered for not having answered,
// silentAge for how long.
const (
	maxSilent = 1024
	silentAge = 10 * time.Minute
)

// upkeepEvery is how often the table is looked after.
const upkeepEvery = 10 * time.Second

// tokenPeriod is how long a secret signs; tokens live one to two periods. BEP 5
// has clients use them for up to ten minutes.
const tokenPeriod = 10 * time.Minute

// A socket is one address of the node, and a node of the DHT by itself: with an
// id, a routing table and queries in flight (BEP 32, BEP 45). Its methods are
// the protocol; they are given the time and an outbox. Guarded by the node's
// mutex.
type socket struct {
	node  *Node
	conn  udp.Conn
	index int
	is6   bool
	id    key
	fixed bool // the id was chosen by the user and is not derived from the address

	routes routes
	calls  *call.Table[query]
	tokens *token.Secrets
	ballot ballot
	rtt    rtt
	silent *keep.Map[netip.AddrPort, struct{}, struct{}] // whose last query of a walk stalled
	checks int                                           // pings under way that find out who is alive

	in         message   // the datagram being read; the reader's own
	lastHeard  time.Time // any answer at all
	nextUpkeep time.Time
	nextHome   time.Time     // before that it does not bootstrap again
	retry      time.Duration // the last pause between bootstraps that found nobody
}

// A query is one that we have in flight.
type query struct {
	to       netip.AddrPort
	id       key  // of the node that is expected to answer
	knownID  bool // it is known
	check    bool // it is a ping of the table's own
	late     bool // it should have been answered by now
	stalled  bool // nobody waits for it any more
	datagram []byte
	events   chan<- event // where the asker waits; nil: nobody does
	part     int          // what the asker knows the socket by
}

// An event is what came of a query of a procedure. The procedure made room for
// every event in its channel beforehand.
type event struct {
	kind    eventKind
	part    int
	from    netip.AddrPort
	stalled bool   // the query had stalled before
	data    []byte // the answer, a copy
	err     error
}

type eventKind uint8

const (
	queryLate    eventKind = iota // it is late, and goes on
	queryStalled                  // it is so late that it need not be waited for; it goes on
	queryAnswer                   // data is a response or an error
	queryFailed                   // err says why; it is over
)

func (c *query) tell(e event) {
	if c.events == nil {
		return
	}
	e.part, e.from, e.stalled = c.part, c.to, c.stalled
	select {
	case c.events <- e:
	default:
		panic("BUG: mainline: a procedure made no room for its events")
	}
}

// ask sends a query. The call is nil if too many are in flight.
func (s *socket) ask(now time.Time, out *outbox, r *request, q query, resend bool) *call.Call[query] {
	retries := 0
	if resend {
		retries = 1
	}
	c, ok := s.calls.Add(now, retries, q)
	if !ok {
		return nil
	}
	start := len(out.buf)
	b := appendQuery(out.buf, r, s.id[:s.node.idLen], s.node.idLen, s.node.cfg.ReadOnly, c.TID)
	out.add(b, start, q.to)
	if resend {
		c.Payload.datagram = append([]byte(nil), b[start:]...)
	}
	s.sent(now, c)
	return c
}

// sent counts a transmission and sets the next deadline of the call.
func (s *socket) sent(now time.Time, c *call.Call[query]) {
	s.node.stats.Sent++
	next := resendAfter
	if c.Retries == 0 {
		next = s.rtt.slow()
		if c.Payload.events == nil {
			next = giveUp
		}
	} else if c.Sent > 0 {
		next = giveUp - resendAfter
	}
	s.calls.Sent(c, now, now.Add(next))
	s.node.wakeBy(now.Add(next))
}

// advance does what the time demands: ends and repeats queries, and looks after
// the table.
func (s *socket) advance(now time.Time, out *outbox) {
	for c := range s.calls.Expired(now) {
		q := &c.Payload
		switch {
		case c.Retries == 0 && !q.late && now.Sub(c.Created) < giveUp:
			q.late = true
			q.tell(event{kind: queryLate})
			if _, _, silent := s.silent.Get(s.node.clock.Now(now), q.to); silent {
				s.stall(now, c)
			} else {
				s.calls.Sent(c, now, c.Created.Add(s.rtt.patience()))
			}
		case c.Retries == 0 && !q.stalled && now.Sub(c.Created) < giveUp:
			s.stall(now, c)
		case c.Retries > 0 && !c.Exhausted():
			start := len(out.buf)
			out.add(append(out.buf, q.datagram...), start, q.to)
			s.sent(now, c)
		default:
			s.node.stats.TimedOut++
			s.end(c)
			q.tell(event{kind: queryFailed, err: ErrTimeout})
			s.failed(now, out, q)
		}
	}
	if now.Before(s.nextUpkeep) {
		return
	}
	s.nextUpkeep = now.Add(upkeepEvery)
	s.upkeep(now, out)
}

// stall notes that a query is not waited for any more. If others answered at
// the time, so that it is not us who were cut off, the next one to the same
// address stalls as soon as it is late, until there is an answer from there.
func (s *socket) stall(now time.Time, c *call.Call[query]) {
	q := &c.Payload
	q.tell(event{kind: queryStalled})
	q.stalled = true
	if c.Created.Sub(s.lastHeard) < time.Second {
		s.silent.Put(s.node.clock.Now(now), q.to, struct{}{}, struct{}{})
	}
	s.calls.Sent(c, now, c.Created.Add(giveUp))
}

// deadline is when advance wants to be called again.
func (s *socket) deadline() time.Time {
	if d, ok := s.calls.Deadline(); ok && d.Before(s.nextUpkeep) {
		return d
	}
	return s.nextUpkeep
}

func (s *socket) end(c *call.Call[query]) {
	if c.Payload.check {
		s.checks--
	}
	s.calls.Remove(c)
}

// failed notes that a query was in vain. A node of the table is pinged at once,
// twice, and leaves the table if it does not answer that either. Nothing is
// held against it while nobody at all answers: then it is us who are cut off.
func (s *socket) failed(now time.Time, out *outbox, q *query) {
	id, inTable := s.routes.byAddr[q.to]
	if now.Sub(s.lastHeard) > 30*time.Second {
		if x := s.routes.table.Get(id); inTable && x != nil {
			x.Data.checking = false
		}
		return
	}
	switch {
	case !inTable:
	case q.check:
		s.routes.remove(now, id)
	default:
		if x := s.routes.table.Get(id); x != nil {
			x.Data.failed = true
			s.checkKnown(now, out, x)
		}
	}
}

// checkKnown pings a node of the table to learn whether it lives.
func (s *socket) checkKnown(now time.Time, out *outbox, x *known) {
	if !x.Data.checking && s.check(now, out, query{to: x.Addr, id: x.ID, knownID: true}) {
		x.Data.checking = true
	}
}

// check sends a ping of the table's own, if not too many are under way.
func (s *socket) check(now time.Time, out *outbox, q query) bool {
	if s.checks >= maxChecks {
		return false
	}
	q.check = true
	if s.ask(now, out, &request{method: methodPing}, q, true) == nil {
		return false
	}
	s.checks++
	return true
}

// receive takes one datagram.
func (s *socket) receive(now time.Time, out *outbox, d *udp.Datagram) {
	n := s.node
	m := &s.in
	if err := m.parse(d.Payload); err != nil {
		n.stats.Dropped.Malformed++
		n.warn(err, d.Peer)
		return
	}
	switch {
	case m.kind != 'q':
		s.answer(now, out, m, d)
	case n.queryLimit != nil && !n.queryLimit.allow(now, d.Peer.Addr()):
		n.stats.Dropped.Limited++
	default:
		s.serve(now, out, m, d.Peer)
	}
}

// answer takes a response or an error. It counts only if it has the
// transaction id of a query in flight and comes from the address and port that
// was asked.
func (s *socket) answer(now time.Time, out *outbox, m *message, d *udp.Datagram) {
	n := s.node
	var c *call.Call[query]
	if len(m.t) == 2 {
		c = s.calls.Get(uint16(m.t[0])<<8 | uint16(m.t[1]))
	}
	if c == nil || c.Payload.to != d.Peer {
		n.stats.Dropped.Unexpected++
		n.warn(errUnexpected, d.Peer)
		return
	}
	s.lastHeard = now
	s.silent.Delete(d.Peer)
	q := c.Payload
	if c.Retries == 0 || c.Sent == 1 { // else nobody knows which of two was answered
		s.rtt.sample(now.Sub(c.Created))
	}
	s.end(c)
	if m.kind == 'e' {
		n.stats.Failed++
		s.lives(now, d.Peer)
		q.tell(event{kind: queryAnswer, data: append([]byte(nil), d.Payload...)})
		return
	}
	n.stats.Answered++
	if !m.isDict || len(m.body.id) != n.idLen { // no better than silence
		s.failed(now, out, &q)
		q.tell(event{kind: queryFailed, err: errMessage})
		return
	}
	id := toKey(m.body.id)
	s.proved(now, out, point{ID: id, Addr: d.Peer})
	s.vote(now, m.ip, d.Peer.Addr())
	switch {
	case id == s.id:
		q.tell(event{kind: queryFailed, err: errOwnID})
	case q.knownID && id != q.id:
		q.tell(event{kind: queryFailed, err: ErrUnexpectedID})
	default:
		q.tell(event{kind: queryAnswer, data: append([]byte(nil), d.Payload...)})
	}
}

// lives notes that a node of the table answered with an error, as those do
// that do not know a method.
func (s *socket) lives(now time.Time, addr netip.AddrPort) {
	if id, ok := s.routes.byAddr[addr]; ok {
		x := s.routes.table.Get(id)
		x.Data.heard, x.Data.failed, x.Data.checking = now, false, false
	}
}

// proved notes that a node answered from its address.
func (s *socket) proved(now time.Time, out *outbox, c point) {
	if x := s.routes.table.Get(c.ID); x != nil && x.Addr == c.Addr {
		x.Data.checking = false
	}
	if doubtful := s.routes.answered(now, c, s.node.cfg.BucketAge); doubtful != nil {
		s.checkKnown(now, out, doubtful)
	}
}

// queried notes that a node sent us a query. One that the table could take is
// pinged first, since its address is not proven (docs/spec/mainline.md §23.7).
func (s *socket) queried(now time.Time, out *outbox, c point) {
	if s.routes.asked(now, c) || s.checks >= maxStrangers || !s.routes.try(now, c, s.node.cfg.BucketAge) {
		return
	}
	s.check(now, out, query{to: c.Addr})
}

// upkeep pings the nodes not heard from for longest, looks up an id in a bucket
// that has not changed for long, and fills a table that is nearly empty.
func (s *socket) upkeep(now time.Time, out *outbox) {
	n, pinged := s.node, 0
	for x := s.routes.table.Oldest(); x != nil && pinged < refreshPings; x = x.Newer() {
		if now.Sub(x.Data.heard) < n.cfg.BucketAge {
			break
		}
		s.checkKnown(now, out, x)
		pinged++
	}
	n.maintain(now, s)
}

// vote counts what a node says our address is, and takes another id when the
// votes decide for an address to which ours does not belong (BEP 42).
func (s *socket) vote(now time.Time, ip []byte, by netip.Addr) {
	a, ok := parseAddr(ip)
	if !ok || a.Addr().Is6() != s.is6 || private(a.Addr()) || private(by) || !s.ballot.cast(a, by) {
		return
	}
	if s.fixed || s.node.idLen != shortID || secure(s.id, s.ballot.elected.Addr()) {
		return
	}
	s.id = secureID(s.ballot.elected.Addr(), s.node.rnd)
	s.routes.rebase(s.id)
	s.node.rebased(now, s)
}

// secureContact reports whether a node's id belongs to its address, or need not.
func (s *socket) secureContact(c point) bool {
	return !s.node.cfg.RequireSecureIDs || s.node.idLen != shortID || secure(c.ID, c.Addr.Addr())
}

// randomIn is a random id of a bucket.
func (s *socket) randomIn(bucket int) key {
	var k key
	randomize(k[:s.node.idLen], s.node.rnd)
	for i := range bucket {
		bit := byte(0x80 >> (i % 8))
		k[i/8] = k[i/8]&^bit | s.id[i/8]&bit
	}
	if bucket < 8*s.node.idLen {
		bit := byte(0x80 >> (bucket % 8))
		k[bucket/8] = k[bucket/8]&^bit | ^s.id[bucket/8]&bit
	}
	return k
}

package mainline

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"net/netip"
	"slices"
	"time"

	"github.com/warren-dht/warren/internal/call"
	"github.com/warren-dht/warren/kad"
)

// Tuning of ours.
const (
	maxAlpha    = 64
	maxInflight = 2 * maxAlpha // of one walk, late ones included
	maxPerQuery = 3            // events of a query: it is late, it has stalled, its end
	maxHolders  = 64           // nodes whose tokens a walk remembers
)

// A walk is an iterative search for the nodes nearest to a target, on one
// socket or on several at once, asking each node the same request
// (docs/spec/mainline.md §9.2). It is a procedure: it runs in the goroutine that
// wants the result and keeps its progress in here.
type walk struct {
	n      *Node
	req    request
	alpha  int
	parts  []*part
	events chan event
	out    *outbox
	now    time.Time

	in      message // the answer being looked at
	calls   []*call.Call[query]
	held    int           // calls that hold one of the node's slots
	slot    bool          // another slot is held, for the next call
	pause   time.Duration // how long a query has to wait that its address may not get yet; 0: none has to
	noSeeds bool          // do not fall back on the bootstrap nodes
	upkeep  bool          // it is for the table's sake, and its tokens are of no use

	complete bool // it ran to its end

	// visit sees every response; the walk ends when it returns false.
	visit func(*answer) bool
}

// A part is a walk on one socket.
type part struct {
	s       *socket
	i       int
	search  *search
	subnets map[netip.Prefix]netip.AddrPort // whom of a public network we ask
	next    *point                          // waits for a free slot, or until its address may be asked again
	routers bool                            // the bootstrap nodes have been offered
	stalled int                             // queries that need not be waited for
	holders []holder                        // nearest first
}

// A holder is a node that gave a token, and so may be asked to store.
type holder struct {
	point
	socket int
	token  []byte
	seq    *int64 // of the mutable item that it holds
	sig    []byte // of that item
}

// An answer is a response, as a visitor sees it. It is valid until the visitor
// returns.
type answer struct {
	part *part
	from point
	body *body
}

// newWalk prepares a walk over the given sockets.
func (n *Node) newWalk(req request, sockets []*socket) *walk {
	w := &walk{n: n, req: req, alpha: n.cfg.Alpha, events: make(chan event, maxPerQuery*maxInflight*len(sockets))}
	for i, s := range sockets {
		w.parts = append(w.parts, &part{
			s:       s,
			i:       i,
			search:  kad.NewLookup(req.target, K, w.alpha),
			subnets: make(map[netip.Prefix]netip.AddrPort),
		})
	}
	return w
}

// oneEach is the first socket of each family.
func (n *Node) oneEach() (list []*socket) {
	for _, s := range n.byFamily {
		if s != nil {
			list = append(list, s)
		}
	}
	return list
}

// run walks until the nearest nodes have answered, the visitor has enough, or
// the context ends.
func (w *walk) run(ctx context.Context) error {
	if w.n.ctx.Err() != nil {
		return ErrClosed
	}
	if err := w.seed(ctx); err != nil {
		return err
	}
	w.out = borrowOutbox()
	defer outboxes.Put(w.out)
	defer w.abandon()
	for {
		waiting, done := w.ask()
		if done {
			w.complete = true
			return nil
		}
		var slot chan struct{}
		if waiting {
			slot = w.n.slots
		}
		var resume <-chan time.Time
		if w.pause > 0 {
			resume = time.After(w.pause)
		}
		select {
		case e := <-w.events:
			if !w.handle(e) {
				return nil
			}
			for more := true; more; { // all that is there, before asking on
				select {
				case e := <-w.events:
					if !w.handle(e) {
						return nil
					}
				default:
					more = false
				}
			}
		case slot <- struct{}{}:
			w.slot = true
		case <-resume:
		case <-ctx.Done():
			return ctx.Err()
		case <-w.n.ctx.Done():
			return ErrClosed
		}
	}
}

// seed offers the nodes of the tables, and where those are too few the
// bootstrap nodes.
func (w *walk) seed(ctx context.Context) error {
	few := false
	w.n.mu.Lock()
	for _, p := range w.parts {
		near := p.s.routes.near(w.req.target, 2*K)
		for _, x := range near {
			p.offer(x.Contact, netip.AddrPort{})
		}
		few = few || len(near) < K
	}
	w.n.mu.Unlock()
	if !few || w.noSeeds {
		return nil
	}
	select {
	case <-w.n.resolved:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.n.ctx.Done():
		return ErrClosed
	}
	for _, p := range w.parts {
		if p.search.Waiting() < K {
			w.offerRouters(p)
		}
	}
	return nil
}

// offerRouters offers the bootstrap nodes. Their ids are not known: they are
// taken for the target itself, so that they are asked first.
func (w *walk) offerRouters(p *part) {
	p.routers = true
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	for _, a := range slices.Concat(w.n.routers[family(p.s.is6)], w.n.saved) {
		if a.Addr().Is6() == p.s.is6 {
			p.search.Offer(point{ID: w.req.target, Addr: a}, netip.AddrPort{})
		}
	}
}

// offer names a node to the search: one of each public network at a time
// (docs/spec/mainline.md §9.2.6).
func (p *part) offer(c point, by netip.AddrPort) {
	if c.ID == p.s.id || c.Addr.Addr().Is6() != p.s.is6 {
		return
	}
	subnet, limited := kad.Subnet(c.Addr.Addr())
	if limited {
		if a, taken := p.subnets[subnet]; taken && a != c.Addr {
			return
		}
	}
	if p.search.Offer(c, by) == kad.Added && limited {
		p.subnets[subnet] = c.Addr
	}
}

// ask sends as many queries as are due now. It reports whether a free slot is
// waited for, and whether the walk is done.
func (w *walk) ask() (waiting, done bool) {
	done, w.pause = true, 0
	for _, p := range w.parts {
		waiting = w.askPart(p) || waiting
		if p.done() && p.search.Answers < K && !p.routers && !w.noSeeds {
			w.offerRouters(p) // too few live nodes: begin from the bootstrap nodes as well
			waiting = w.askPart(p) || waiting
		}
		done = done && p.done()
	}
	return waiting, done
}

// done reports whether there is nobody left to ask, and nothing under way that
// matters or, if anybody has answered, could still be hoped for.
func (p *part) done() bool {
	stalled := p.search.Answers > 0 && p.search.Waiting() == 0 && p.search.Inflight() == p.stalled
	return p.next == nil && (p.search.Done() || stalled)
}

// askPart is ask for one socket.
func (w *walk) askPart(p *part) (waiting bool) {
	locked := false
	for {
		if p.next == nil {
			c, ok := p.search.Next()
			if !ok {
				break
			}
			if p.search.Inflight() > maxInflight {
				p.search.Down(c.Addr)
				continue
			}
			p.next = &c
		}
		if !w.takeSlot() {
			waiting = true
			break
		}
		if !locked {
			w.n.mu.Lock()
			w.now, locked = time.Now(), true
		}
		if wait := w.send(p, *p.next); wait > 0 {
			if w.pause == 0 || wait < w.pause {
				w.pause = wait
			}
			break
		}
		p.next = nil
	}
	if locked {
		w.n.mu.Unlock()
		w.out.flush(p.s.conn)
	}
	return waiting
}

// takeSlot takes one of the node's slots, if one is free or was waited for.
func (w *walk) takeSlot() bool {
	if w.slot {
		w.slot = false
		return true
	}
	select {
	case w.n.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// send asks one node, or returns how long it has to wait because its address
// gets too much from us. The caller holds the mutex and a slot.
func (w *walk) send(p *part, c point) (wait time.Duration) {
	n := w.n
	if n.sendLimit != nil {
		if wait = n.sendLimit.take(w.now, c.Addr.Addr()); wait > 0 {
			<-n.slots
			return wait
		}
	}
	q := query{to: c.Addr, id: c.ID, knownID: c.ID != w.req.target, events: w.events, part: p.i}
	asked := p.s.ask(w.now, w.out, &w.req, q, false)
	if asked == nil { // too much is in flight
		<-n.slots
		p.search.Down(c.Addr)
		return 0
	}
	w.calls = append(w.calls, asked)
	w.held++
	return 0
}

// handle takes what came of a query. It reports whether to go on.
func (w *walk) handle(e event) bool {
	p := w.parts[e.part]
	switch e.kind {
	case queryLate:
		p.search.Slow(e.from)
		return true
	case queryStalled:
		p.stalled++
		return true
	}
	<-w.n.slots
	w.held--
	if e.stalled {
		p.stalled--
	}
	if e.kind == queryFailed {
		if subnet, limited := kad.Subnet(e.from.Addr()); limited && p.subnets[subnet] == e.from {
			delete(p.subnets, subnet) // another of that network may be asked
		}
		p.search.Down(e.from)
		return true
	}
	m := &w.in
	if m.parse(e.data) != nil || m.kind != 'r' {
		p.search.Refused(e.from)
		return true
	}
	from := point{ID: toKey(m.body.id), Addr: e.from}
	valid := p.s.secureContact(from)
	p.search.Answered(e.from, from.ID, valid)
	if valid && m.body.any(hasToken) && len(m.body.token) <= maxToken {
		h := holder{point: from, socket: p.s.index, token: bytes.Clone(m.body.token), seq: itemSeq(&m.body)}
		if len(m.body.sig) == ed25519.SignatureSize {
			h.sig = bytes.Clone(m.body.sig)
		}
		p.hold(w.req.target, h)
	}
	w.offerNodes(m.body.nodes, peer4Size, e.from)
	w.offerNodes(m.body.nodes6, peer6Size, e.from)
	return w.visit == nil || w.visit(&answer{part: p, from: from, body: &m.body})
}

// itemSeq is the seq of the item in an answer, nil if there is none.
func itemSeq(b *body) *int64 {
	if !b.any(hasSeq) || !b.any(hasKey) && b.any(hasValue) {
		return nil
	}
	seq := b.seq
	return &seq
}

// offerNodes offers the nodes of a compact list to the parts of their family.
func (w *walk) offerNodes(list []byte, addrSize int, from netip.AddrPort) {
	n := w.n
	for i := 0; i < maxNodesTaken; i++ {
		c, rest, ok := nextNode(list, n.idLen, addrSize)
		if !ok {
			return
		}
		list = rest
		if !routable(c.Addr, from.Addr()) {
			continue
		}
		for _, p := range w.parts {
			p.offer(c, from)
		}
	}
}

// maxNodesTaken bounds the nodes taken from one answer. bittorrent-dht sends
// its whole table.
const maxNodesTaken = 128

// maxToken bounds the tokens that are remembered. Theirs are opaque; jech/dht
// takes them up to 127 bytes.
const maxToken = 256

// hold remembers who gave a token, the nearest ones.
func (p *part) hold(target key, h holder) {
	i, _ := slices.BinarySearchFunc(p.holders, h.ID, func(x holder, id key) int {
		return kad.Compare(target, x.ID, id)
	})
	if p.holders = slices.Insert(p.holders, i, h); len(p.holders) > maxHolders {
		p.holders = p.holders[:maxHolders]
	}
}

// nearestHolders are the K nearest nodes of each socket that gave a token.
func (w *walk) nearestHolders() (list []holder) {
	for _, p := range w.parts {
		list = append(list, p.holders[:min(K, len(p.holders))]...)
	}
	return list
}

// abandon lets go of the queries that are still under way. What they bring
// later still serves the table.
func (w *walk) abandon() {
	w.n.mu.Lock()
	for _, c := range w.calls {
		c.Payload.events = nil
	}
	w.n.mu.Unlock()
	if w.slot {
		w.held++
	}
	for ; w.held > 0; w.held-- {
		<-w.n.slots
	}
}

package dhtrpc1

import (
	"context"
	"iter"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/kad"
)

// maxOutstanding bounds the requests of one search that have been submitted,
// those included that punch holes after a timeout.
const maxOutstanding = 64

// A search is a query on its way (docs/spec/dht-rpc-v2.md §9). It belongs to the
// goroutine of the query's caller.
type search struct {
	node   *Node
	query  Query
	commit bool // a second part follows
	yield  func(Reply, error) bool

	lookup *kad.Lookup[ID]
	move   bool   // nodes that are named in replies are asked, too
	given  []Peer // of Query.Nodes, those that have not been offered yet
	nodes  map[netip.AddrPort]candidate
	second bool             // the second part has begun
	tokens []netip.AddrPort // whom it has still to ask

	asks     map[*ask]struct{} // submitted, nothing came back yet
	results  chan result       // has room for all of them
	retries  []*ask            // to be submitted next
	suspects []Contact         // did not answer

	responses int  // all replies
	commits   int  // those of the second part
	stopped   bool // the caller takes no more
}

// A candidate is what a search knows of a node.
type candidate struct {
	id       *ID            // as it was named to us, nil if it was not
	referrer netip.AddrPort // who named it
	token    []byte         // its latest
}

// A result is what came of a request.
type result struct {
	answer
	ask *ask
	job job
}

// A job is a request of a search as one of up to three steps: a node that does
// not answer is pinged through its referrer and asked once more.
type job struct {
	addr netip.AddrPort // the node in question
	step step
}

type step int

const (
	stepAsk step = iota
	stepPunch
	stepAskAgain
)

// search returns the replies of a query.
func (n *Node) search(ctx context.Context, q Query, commit bool) iter.Seq2[Reply, error] {
	return func(yield func(Reply, error) bool) {
		s, err := n.newSearch(ctx, q, commit)
		if err == nil {
			s.yield = yield
			if err = s.run(ctx); s.stopped {
				return
			}
		}
		if err != nil {
			yield(Reply{}, err)
		}
	}
}

// newSearch chooses the nodes to begin with. If it fails there is nothing to
// end.
func (n *Node) newSearch(ctx context.Context, q Query, commit bool) (*search, error) {
	if q.K <= 0 {
		q.K = K
	}
	if q.Concurrency <= 0 {
		q.Concurrency = defaultConcurrency
	}
	largest := request{command: q.Command, id: n.id[:], target: q.Target[:], value: q.Value, token: make([]byte, maxToken)}
	if len(largest.Append(nil)) > MaxDatagram {
		return nil, ErrTooLarge
	}
	move := len(q.Nodes) == 0
	if !move {
		q.K = len(q.Nodes)
	}
	q.Concurrency = min(q.Concurrency, maxOutstanding)
	s := &search{
		node:    n,
		query:   q,
		commit:  commit,
		lookup:  kad.NewLookup(q.Target, q.K, q.Concurrency),
		move:    move,
		nodes:   map[netip.AddrPort]candidate{},
		asks:    map[*ask]struct{}{},
		results: make(chan result, maxOutstanding),
	}
	for _, p := range q.Nodes {
		p = Peer{unmapped(p.Addr), unmapped(p.Referrer)}
		if !sendable(p.Addr) || p.Referrer.IsValid() && !sendable(p.Referrer) {
			return nil, ErrAddress
		}
		s.given = append(s.given, p)
	}
	return s, n.do(ctx, func(c *core, _ time.Time) {
		c.queries++
		if move {
			s.seed(c)
		}
	})
}

// seed offers the closest nodes of the table, and the bootstrap nodes if there
// are more of those.
func (s *search) seed(c *core) {
	seeds := c.closest(s.query.Target, min(s.query.K, K))
	for _, x := range seeds {
		s.offer(x.Addr, &x.ID, netip.AddrPort{})
	}
	if len(seeds) < len(c.bootstrap) {
		for _, addr := range c.bootstrap {
			s.offer(addr, nil, netip.AddrPort{})
		}
	}
}

// offer names a node that may be asked. One whose id is not known is taken for
// the closest of all.
func (s *search) offer(addr netip.AddrPort, id *ID, referrer netip.AddrPort) {
	contact := Contact{ID: s.query.Target, Addr: addr}
	if id != nil {
		contact.ID = *id
	}
	if s.lookup.Offer(contact, referrer) == kad.Added {
		s.nodes[addr] = candidate{id: id, referrer: referrer}
	}
}

// run asks until nobody is left to ask, and gives back what the search holds of
// the node, even if the caller's loop panics.
func (s *search) run(ctx context.Context) error {
	defer s.end()
	if err := s.part(ctx); err != nil || s.stopped {
		return err
	}
	if s.responses == 0 {
		return ErrNoNodes
	}
	if !s.commit {
		return nil
	}
	s.abandon() // those that are late
	s.second = true
	for _, c := range s.lookup.Closest() {
		s.tokens = append(s.tokens, c.Addr)
	}
	if err := s.part(ctx); err != nil || s.stopped {
		return err
	}
	if s.commits == 0 {
		return ErrNoCloseNodes
	}
	return nil
}

// part runs one of the two parts.
func (s *search) part(ctx context.Context) error {
	for {
		if err := s.node.do(ctx, s.start); err != nil {
			return err
		}
		if len(s.asks) == 0 || !s.second && s.lookup.Done() {
			return nil
		}
		select {
		case r := <-s.results:
			if s.take(r); s.stopped {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-s.node.closing:
			return ErrClosed
		}
	}
}

// start submits as many requests as there is room for on the socket, but one at
// least if nothing of ours is under way. It runs on the loop.
func (s *search) start(c *core, now time.Time) {
	for _, x := range s.suspects {
		c.suspect(x)
	}
	s.suspects = s.suspects[:0]
	for _, a := range s.retries {
		s.submit(c, now, a)
	}
	s.retries = s.retries[:0]

	wide := s.query.Concurrency
	if s.query.background && c.queries > 1 {
		wide = min(wide, max(2, wide/8)) // docs/spec/dht-rpc-v2.md §10
	}
	free := wide - c.calls.Len() - len(c.queue)
	if len(s.asks) == 0 {
		free = max(free, 1)
	}
	for ; free > 0 && len(s.asks) < maxOutstanding; free-- {
		addr, ok := s.next()
		if !ok {
			break
		}
		s.submit(c, now, s.request(addr, stepAsk))
	}
}

// next chooses whom to ask next.
func (s *search) next() (addr netip.AddrPort, ok bool) {
	if !s.second {
		// One at a time, since a lookup keeps few in waiting.
		for s.lookup.Waiting() == 0 && len(s.given) > 0 {
			s.offer(s.given[0].Addr, nil, s.given[0].Referrer)
			s.given = s.given[1:]
		}
		c, ok := s.lookup.Next()
		return c.Addr, ok
	}
	if len(s.tokens) == 0 {
		return addr, false
	}
	addr = s.tokens[0]
	s.tokens = s.tokens[1:]
	return addr, true
}

// request makes the query's request for a node.
func (s *search) request(addr netip.AddrPort, st step) *ask {
	a := &ask{to: addr, req: request{command: s.query.Command, target: s.query.Target[:], value: s.query.Value}}
	if s.second {
		a.req.token = s.nodes[addr].token
	}
	return s.prepare(a, job{addr, st})
}

// punch makes the ping that has the node's referrer tell it to answer us.
func (s *search) punch(addr netip.AddrPort) *ask {
	x := s.nodes[addr]
	a := &ask{to: x.referrer, relayed: true, peer: x.id}
	a.req = request{command: commandPing, forwardRequest: appendPeer(nil, addr)}
	return s.prepare(a, job{addr, stepPunch})
}

func (s *search) prepare(a *ask, j job) *ask {
	results := s.results
	a.done = func(_ time.Time, r answer) { results <- result{r, a, j} }
	return a
}

func (s *search) submit(c *core, now time.Time, a *ask) {
	s.asks[a] = struct{}{}
	a.req.id = c.ownID()
	c.submit(now, a)
}

// take deals with what came of a request.
func (s *search) take(r result) {
	if _, ok := s.asks[r.ask]; !ok {
		return // abandoned
	}
	delete(s.asks, r.ask)
	x := s.nodes[r.job.addr]
	switch {
	case r.err == nil && r.job.step == stepPunch:
		s.retries = append(s.retries, s.request(r.job.addr, stepAskAgain))
	case r.err == nil:
		s.reply(r)
	case r.err == ErrTimeout && r.job.step == stepAsk && !s.query.NoHolepunch &&
		x.referrer.IsValid() && x.referrer != r.job.addr:
		s.lookup.Slow(r.job.addr)
		s.retries = append(s.retries, s.punch(r.job.addr))
	default:
		s.lookup.Down(r.job.addr)
		if x.id != nil {
			s.suspects = append(s.suspects, Contact{ID: *x.id, Addr: r.job.addr})
		}
	}
}

// reply takes a node's answer and hands it on.
func (s *search) reply(r result) {
	s.responses++
	if s.second {
		s.commits++
	}
	addr, own := r.job.addr, s.node.id
	named := r.res.id != nil && ID(r.res.id) != own
	var id ID
	if named {
		id = ID(r.res.id)
	}
	// Only who gives a token can be asked in the second part.
	s.lookup.Answered(addr, id, named && (r.res.token != nil || !s.commit))
	if x, ok := s.nodes[addr]; ok && r.res.token != nil {
		x.token = r.res.token
		s.nodes[addr] = x
	}
	if s.move && !s.second {
		listed, _ := parseNodes(r.res.nodes) // a void list is an empty one
		for _, c := range listed {
			if c.ID != own && sendable(c.Addr) {
				s.offer(c.Addr, &c.ID, addr)
			}
		}
	}
	if named && (!s.commit || s.query.Verbose || s.second) {
		from := Contact{ID: id, Addr: addr}
		s.stopped = !s.yield(Reply{From: from, Value: r.res.value, Closest: s.second}, nil)
	}
}

// abandon cancels what is under way.
func (s *search) abandon() {
	if len(s.asks) > 0 {
		s.node.do(context.Background(), s.cancel)
	}
	s.results = make(chan result, maxOutstanding) // results of those may lie in the old one
}

func (s *search) cancel(c *core, now time.Time) {
	for a := range s.asks {
		c.cancel(now, a)
	}
	clear(s.asks)
}

// end gives back what the search holds of the node.
func (s *search) end() {
	s.node.do(context.Background(), func(c *core, now time.Time) {
		s.cancel(c, now)
		for _, x := range s.suspects {
			c.suspect(x)
		}
		c.queries--
	})
}

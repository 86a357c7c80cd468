package mainline

import (
	"context"
	"net/netip"
	"time"
)

// A fan is a handful of queries that have to arrive, each sent a second time if
// need be, to different nodes at once. It is owned by one procedure.
type fan struct {
	n      *Node
	events chan event
	each   func(event) // what came of a query, one call for each
	out    *outbox     // for socket
	socket *socket
	open   int // queries under way, each of which holds a slot
}

// newFan makes a fan of at most so many queries.
func (n *Node) newFan(most int, each func(event)) *fan {
	return &fan{n: n, events: make(chan event, most), each: each, out: borrowOutbox()}
}

// send sends a query, or has flush send it, as soon as there is a free slot and
// its address may get another one. While it waits for a slot it takes answers,
// so that fans never wait for each other.
func (f *fan) send(ctx context.Context, s *socket, req *request, q query) error {
	n := f.n
	q.events = f.events
	if f.socket != s {
		f.flush()
		f.socket = s
	}
	for taken := false; !taken; {
		select {
		case n.slots <- struct{}{}:
			taken = true
		default:
			f.flush()
			select {
			case n.slots <- struct{}{}:
				taken = true
			case e := <-f.events:
				f.take(e)
			case <-ctx.Done():
				return ctx.Err()
			case <-n.ctx.Done():
				return ErrClosed
			}
		}
	}
	f.open++
	n.mu.Lock()
	if wait := n.pace(time.Now(), q.to.Addr()); wait > 0 {
		n.mu.Unlock()
		f.flush()
		if err := n.sleep(ctx, wait); err != nil {
			return err
		}
		n.mu.Lock()
	}
	c := s.ask(time.Now(), f.out, req, q, true)
	n.mu.Unlock()
	if c == nil {
		return ErrBusy
	}
	return nil
}

// pace returns how long a query to an address has to wait.
func (n *Node) pace(now time.Time, ip netip.Addr) time.Duration {
	if n.sendLimit == nil {
		return 0
	}
	return n.sendLimit.reserve(now, ip)
}

func (f *fan) flush() {
	if f.socket != nil {
		f.out.flush(f.socket.conn)
	}
}

func (f *fan) take(e event) {
	<-f.n.slots
	f.open--
	f.each(e)
}

// wait takes what comes until all queries are over.
func (f *fan) wait(ctx context.Context) error {
	f.flush()
	for f.open > 0 {
		select {
		case e := <-f.events:
			f.take(e)
		case <-ctx.Done():
			return ctx.Err()
		case <-f.n.ctx.Done():
			return ErrClosed
		}
	}
	return nil
}

// end gives everything back.
func (f *fan) end() {
	f.flush()
	outboxes.Put(f.out)
	for ; f.open > 0; f.open-- {
		<-f.n.slots
	}
}

// sleep waits for a while, or until it is no use.
func (n *Node) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-n.ctx.Done():
		return ErrClosed
	}
}

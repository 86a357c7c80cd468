package relay

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/protomux"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
)

// A pairing is what the relay does for a token: it waits for the second offer,
// then it relays. Guarded by the server's lock.
type pairing struct {
	server  *Server
	token   Token
	offers  [2]*offer   // responder, initiator
	timer   *time.Timer // while it waits; nil: for ever
	matched bool
	streams int // of ours that are not over
}

// An offer is one side of a pairing. Guarded by the server's lock.
type offer struct {
	pairing *pairing
	session *Session
	role    int    // index into pairing.offers
	id      uint32 // of the client's stream
	stream  *udx.Stream
	found   bool // the client's packets have come
}

func roleOf(initiator bool) int {
	if initiator {
		return 1
	}
	return 0
}

// pair takes a client's offer.
func (c *Session) pair(_ *protomux.Channel, payload []byte) error {
	m, err := parsePair(payload)
	if err != nil {
		return err
	}
	if p := c.offer(m); p != nil {
		// To the responder first, as the reference does.
		for _, o := range p.offers {
			answer := pairMessage{initiator: o.role == 1, token: p.token, id: o.stream.ID()}
			o.session.channel.Send(typePair, answer.Append(nil)) // or its end undoes the pair
		}
	}
	return nil
}

// offer notes an offer. It returns the pairing that the offer completes, if it
// does.
func (c *Session) offer(m pairMessage) *pairing {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.over {
		return nil
	}
	p, role := s.pending[m.token], roleOf(m.initiator)
	if p != nil && p.offers[role] != nil {
		return nil
	}
	if len(c.offers) >= s.cfg.MaxPerSession || c.source.IsValid() && s.sources[c.source] >= s.cfg.MaxPerSource ||
		p == nil && len(s.pending) >= s.cfg.MaxPending && !s.makeRoom(c.source) ||
		p != nil && s.stats.Pairings.Active >= s.cfg.MaxPairs {
		s.stats.Pairings.Refused++
		return nil
	}
	if p == nil {
		p = &pairing{server: s, token: m.token}
		s.pending[m.token] = p
		if s.cfg.PairTimeout > 0 {
			p.timer = time.AfterFunc(s.cfg.PairTimeout, p.expire)
		}
	}
	o := &offer{pairing: p, session: c, role: role, id: m.id}
	p.offers[role] = o
	c.add(o)
	s.stats.Pairings.Requested++
	if p.offers[1-role] == nil {
		return nil
	}
	if p.relay() != nil {
		p.cancel()
		return nil
	}
	return p
}

// makeRoom cancels a waiting offer of the address that has most of them, so that a
// few addresses do not shut out the others; but not for one that has hardly fewer
// itself. The caller holds the lock.
func (s *Server) makeRoom(source netip.Addr) bool {
	waiting := map[netip.Addr]int{}
	for _, p := range s.pending {
		for _, o := range p.offers {
			if o != nil {
				waiting[o.session.source]++
			}
		}
	}
	var victim *pairing
	most := waiting[source] + 1
	for _, p := range s.pending {
		for _, o := range p.offers {
			if o != nil && waiting[o.session.source] > most {
				victim, most = p, waiting[o.session.source]
			}
		}
	}
	if victim == nil {
		return false
	}
	victim.cancel()
	return true
}

// relay makes the relay's streams and joins them.
func (p *pairing) relay() error {
	s := p.server
	for _, o := range p.offers {
		stream, err := s.cfg.NewStream(udx.StreamConfig{Accept: o.accept, OnEnd: o.ended})
		if err != nil {
			return err
		}
		o.stream = stream
		p.streams++
		s.stats.Streams.Opened++
	}
	for _, o := range p.offers {
		if err := o.stream.RelayTo(p.offers[1-o.role].stream); err != nil {
			return err
		}
	}
	p.settle()
	p.matched = true
	s.stats.Pairings.Matched++
	s.stats.Pairings.Active++
	return nil
}

// settle ends the waiting.
func (p *pairing) settle() {
	if p.timer != nil {
		p.timer.Stop()
	}
	if p.server.pending[p.token] == p {
		delete(p.server.pending, p.token)
	}
}

// cancel ends a pairing that has come to nothing.
func (p *pairing) cancel() {
	p.settle()
	p.server.stats.Pairings.Cancelled++
	for _, o := range p.offers {
		if o != nil {
			o.session.remove(o)
		}
	}
	p.destroy()
}

// destroy ends the relay's streams; the rest follows when they are over. The
// clients get no DESTROY: their own connection with the relay tells them.
func (p *pairing) destroy() {
	for _, o := range p.offers {
		if o != nil && o.stream != nil {
			o.stream.Destroy(nil)
		}
	}
}

// expire runs when an offer has waited too long.
func (p *pairing) expire() {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	if p.server.pending[p.token] == p {
		p.cancel()
	}
}

// ended runs when a stream of the relay's is over.
func (o *offer) ended() {
	p, s := o.pairing, o.pairing.server
	s.mu.Lock()
	defer s.mu.Unlock()
	o.session.remove(o)
	s.stats.Streams.Closed++
	if err := o.stream.Err(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.stats.Streams.Errors++
	}
	if p.streams--; p.streams == 0 && p.matched {
		s.stats.Pairings.Active--
	}
	p.destroy() // the other one too, if it has a reason to live on
}

// accept is asked about the source of packets for the relay's stream. The first
// one is where the client is from then on; it must be the host of the client's
// connection, or a client could make the relay send to others. Afterwards the
// stream only moves to where the connection itself has moved: that was validated,
// while a packet with the stream's id can be anybody's.
func (o *offer) accept(stream *udx.Stream, conn udp.Conn, from netip.AddrPort) bool {
	s := o.pairing.server
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	s.mu.Lock()
	found := o.found
	ok := o.stream != nil && (!o.session.source.IsValid() || o.session.source == from.Addr())
	if found {
		ok = ok && from == o.session.addr
	}
	if ok {
		o.found = true
	}
	s.mu.Unlock()
	switch {
	case !ok:
		return false
	case !found:
		return stream.Connect(conn, o.id, from, udx.ConnectOptions{}) == nil
	}
	_, err := stream.ChangeRemote(conn, o.id, from)
	return err == nil
}

// unpair gives up a pairing on behalf of a client, who knows its token.
func (c *Session) unpair(_ *protomux.Channel, payload []byte) error {
	token, err := parseUnpair(payload)
	if err != nil {
		return err
	}
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pending[token]; p != nil {
		p.cancel()
		return nil
	}
	for o := range c.offers {
		if o.pairing.token == token {
			s.stats.Pairings.Cancelled++
			o.pairing.destroy()
		}
	}
	return nil
}

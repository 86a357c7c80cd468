package relay

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/protomux"
	"github.com/warren-dht/warren/udp"
)

// A Session is a client of a relay. Safe for concurrent use.
type Session struct {
	server  *Server
	channel *protomux.Channel

	// Guarded by the server's lock.
	source netip.Addr
	addr   netip.AddrPort      // where the client's connection has moved to; invalid: it has not
	offers map[*offer]struct{} // pending and relayed
	idle   *time.Timer         // runs while there is none; nil: no limit, or over
	over   bool
}

// Accept serves a client on its connection, until the channel or the connection
// is closed. The id is the client's public key there. The source is the
// connection's remote IP address: it has its share of the quota, and the
// client's packets must come from it. The zero address is not checked, and
// shares nothing.
func (s *Server) Accept(mux *protomux.Mux, id []byte, source netip.Addr) (*Session, error) {
	session := &Session{server: s, source: source.Unmap(), offers: make(map[*offer]struct{})}
	channel, err := mux.Channel(protomux.ChannelConfig{
		Protocol: Protocol,
		ID:       id,
		OnOpen:   session.opened,
		Messages: []func(*protomux.Channel, []byte) error{typePair: session.pair, typeUnpair: session.unpair},
		OnClose:  func(*protomux.Channel, bool) { session.end() },
	})
	if err != nil {
		return nil, fmt.Errorf("relay: accepting a client: %w", err)
	}
	session.channel = channel
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		channel.Close()
		return nil, ErrServerClosed
	}
	s.sessions[session] = struct{}{}
	s.stats.Sessions.Accepted++
	if s.cfg.IdleTimeout > 0 {
		session.idle = time.AfterFunc(s.cfg.IdleTimeout, session.closeIdle)
	}
	s.mu.Unlock()
	if err := channel.Open(nil); err != nil {
		channel.Close()
		return nil, fmt.Errorf("relay: accepting a client: %w", err)
	}
	return session, nil
}

// Done is closed when the client is gone.
func (c *Session) Done() <-chan struct{} { return c.channel.Done() }

// Moved says that the client's connection has another path now: the streams that
// the relay has for the client follow. Its share of the quota moves with it, and
// its packets must come from there.
func (c *Session) Moved(conn udp.Conn, remote netip.AddrPort) {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	source := remote.Addr().Unmap()
	for o := range c.offers {
		s.uncount(c.source)
		s.count(source)
		if o.found {
			o.stream.ChangeRemote(conn, o.id, remote) // or it is over
		}
	}
	c.source, c.addr = source, netip.AddrPortFrom(source, remote.Port())
}

// Close closes the client's channel, which ends its pairs. The connection stays
// open.
func (c *Session) Close() { c.channel.Close() }

func (c *Session) opened(*protomux.Channel, []byte) error {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.server.stats.Sessions.Opened++
	return nil
}

// end follows the end of the channel.
func (c *Session) end() {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	c.over = true
	if c.idle != nil {
		c.idle.Stop()
		c.idle = nil
	}
	if _, ok := s.sessions[c]; ok {
		delete(s.sessions, c)
		s.stats.Sessions.Closed++
	}
	for o := range c.offers {
		if o.pairing.matched {
			o.pairing.destroy()
		} else {
			o.pairing.cancel()
		}
	}
}

// closeIdle runs when the timer of an idle client fires.
func (c *Session) closeIdle() {
	c.server.mu.Lock()
	idle := len(c.offers) == 0
	c.server.mu.Unlock()
	if idle {
		c.Close()
	}
}

// add counts an offer of the client. The caller holds the lock.
func (c *Session) add(o *offer) {
	c.offers[o] = struct{}{}
	c.server.count(c.source)
	if c.idle != nil {
		c.idle.Stop()
	}
}

// remove undoes add, once. The caller holds the lock.
func (c *Session) remove(o *offer) {
	if _, ok := c.offers[o]; !ok {
		return
	}
	delete(c.offers, o)
	c.server.uncount(c.source)
	if len(c.offers) == 0 && c.idle != nil {
		c.idle.Reset(c.server.cfg.IdleTimeout)
	}
}

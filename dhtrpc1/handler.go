package dhtrpc1

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// A Handler answers the application's requests. ServeRPC runs on the node's
// loop, so a handler needs no lock for state of its own, and must not wait: one
// that needs time keeps the request and replies from another goroutine.
type Handler interface {
	ServeRPC(*Request)
}

// HandlerFunc is a function as a [Handler].
type HandlerFunc func(*Request)

// ServeRPC calls f.
func (f HandlerFunc) ServeRPC(r *Request) { f(r) }

// A Mux is a [Handler] that chooses another by the request's kind and command.
// A request that finds none is answered without a value. Register everything
// before the node is made. The zero value is ready for use.
type Mux struct {
	query, closest map[string]HandlerFunc
}

// HandleQuery registers the handler of plain queries with a command (in the
// reference the event "query:command"); the empty command registers it for all
// that have no handler of their own ("query").
func (m *Mux) HandleQuery(command string, f HandlerFunc) {
	if m.query == nil {
		m.query = map[string]HandlerFunc{}
	}
	m.query[command] = f
}

// HandleClosest registers the handler of closest queries with a command (in the
// reference "closest:command" in 1.x and "update:command" since 2.0), as
// HandleQuery does. Their senders have proved that they receive at the IP
// address that they send from.
func (m *Mux) HandleClosest(command string, f HandlerFunc) {
	if m.closest == nil {
		m.closest = map[string]HandlerFunc{}
	}
	m.closest[command] = f
}

// HandleUpdate is HandleClosest under its name of 2.x.
func (m *Mux) HandleUpdate(command string, f HandlerFunc) { m.HandleClosest(command, f) }

// ServeRPC calls the handler that was registered for the request.
func (m *Mux) ServeRPC(r *Request) {
	handlers := m.query
	if r.Closest {
		handlers = m.closest
	}
	f := handlers[r.Command]
	if f == nil {
		f = handlers[""]
	}
	if f == nil {
		r.Reply(nil)
		return
	}
	f(r)
}

// A Request is what somebody asks the application. The handler owns it; Reply
// and Drop may be called from any goroutine.
type Request struct {
	// Addr is whence it came. Anybody can send in another's name, unless
	// Closest is set.
	Addr netip.AddrPort
	// ID is the sender's id if HasID is set; ephemeral senders have none.
	ID    ID
	HasID bool
	// Command is never one of dht-rpc itself (_ping, _find_node).
	Command string
	Target  ID
	// Value is nil if the request has none.
	Value []byte
	// Closest tells a closest query (in 2.x: update) from a plain one: the
	// sender has shown a token that we gave to its IP address.
	Closest bool

	tid     uint16
	since   time.Time
	reply   []byte
	state   atomic.Int32
	deliver func(*Request)
}

// States of a request.
const (
	requestOpen    = iota
	requestClaimed // about to be one of the following
	requestReplied
	requestDropped
	requestExpired
)

// maxReply is the longest value of a response, in bytes. Beyond 364 it
// takes the place of nodes.
const maxReply = MaxDatagram - responseOverhead

// Reply answers with a value, nil for none, and the nodes closest to the
// target. The value must not be changed afterwards. Only the first call of
// Reply or Drop within 30 s of the request has an effect. A value of more than
// 1124 bytes does not fit; nothing is sent then and the error is [ErrTooLarge].
func (r *Request) Reply(value []byte) error {
	if len(value) > maxReply {
		r.Drop()
		return ErrTooLarge
	}
	r.end(requestReplied, value)
	return nil
}

// Drop leaves the request unanswered: the sender sees a timeout, as after an
// error of a handler in the reference.
func (r *Request) Drop() { r.end(requestDropped, nil) }

func (r *Request) end(state int32, value []byte) {
	if r.state.CompareAndSwap(requestOpen, requestClaimed) {
		r.reply = value
		r.state.Store(state)
		r.deliver(r)
	}
}

package dhtrpc

import (
	"net/netip"
	"slices"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/udp"
)

// A Handler serves the commands of an application.
type Handler interface {
	// ServeRPC answers a request with its methods, or leaves it unanswered. It
	// returns false if it does not know the command; the node then says so to
	// the requester.
	//
	// It runs under the node's lock, so all state that only it (and functions
	// given to [Node.Do]) touches needs no other. Therefore it must not wait,
	// and must not call methods of the Node or of a [Pending]. A handler that
	// needs time detaches the request. The request and its byte slices are
	// valid until it returns.
	ServeRPC(*Request) bool
}

// HandlerFunc is a function as a [Handler].
type HandlerFunc func(*Request) bool

// ServeRPC calls f.
func (f HandlerFunc) ServeRPC(r *Request) bool { return f(r) }

// A Request is a command that another node asks this one to carry out. Valid
// while [Handler.ServeRPC] runs; see Detach.
type Request struct {
	Command uint64
	Target  *ID            // nil: absent
	Value   []byte         // nil: absent. Old peers read an empty value as absent
	Token   *[32]byte      // nil unless present and valid: the requester receives at From's IP
	From    netip.AddrPort // whence it came
	FromID  *ID            // nil unless the requester is persistent and this is its address's id
	To      netip.AddrPort // our address as the requester sees it; do not trust a single one
	TID     uint16
	Conn    udp.Conn // the socket it came in on

	core     *core
	size     int // of the datagram
	answered bool
}

// A ReplyOption changes how a request is answered.
type ReplyOption func(*replyOptions)

type replyOptions struct {
	to             netip.AddrPort
	conn           udp.Conn
	token, noToken bool
	withoutCloser  bool
	withheld       bool
}

// To sends the answer to another address than the request's source. Its token
// is one for that address.
func To(a netip.AddrPort) ReplyOption { return func(o *replyOptions) { o.to = a } }

// Via sends the answer through another socket than the one the request came in
// on.
func Via(conn udp.Conn) ReplyOption { return func(o *replyOptions) { o.conn = conn } }

// WithoutToken leaves the token out of a reply.
func WithoutToken() ReplyOption { return withoutToken }

// WithToken puts a token into an error reply, which by default has none.
func WithToken() ReplyOption { return withToken }

// WithoutCloser leaves the closer nodes out.
func WithoutCloser() ReplyOption { return withoutCloser }

// Withheld tells the requester that a value was left out because Reply failed
// with ErrTooLarge: it repeats the request with the token of this reply, once, if
// it runs this package's [Query]. Other implementations ignore it.
func Withheld() ReplyOption { return withheld }

func withheld(o *replyOptions)      { o.withheld = true }
func withoutToken(o *replyOptions)  { o.noToken = true }
func withToken(o *replyOptions)     { o.token = true }
func withoutCloser(o *replyOptions) { o.withoutCloser = true }

// Reply answers with a value (nil: none), a token and, if the request has a
// target, the closest nodes to it. The value is copied. A request is answered
// at most once, else ErrAnswered. ErrTooLarge says that nothing was sent: what a
// requester may be sent that has not shown a token is bounded by
// Config.MaxReply and Limits.UnprovenBytes. A reply without a value and without
// closer nodes always leaves. docs/spec/dht-rpc.md §5.6.
func (r *Request) Reply(value []byte, opts ...ReplyOption) error {
	return r.answer(&reply{value: value}, true, opts)
}

// Error answers with an error code, without a token, with the closest nodes if
// the request has a target. ErrTooLarge: the code is above 2^53-1.
func (r *Request) Error(code ErrorCode, opts ...ReplyOption) error {
	return r.answer(&reply{code: uint64(code)}, false, opts)
}

func (r *Request) answer(m *reply, token bool, opts []ReplyOption) error {
	if r.answered {
		return ErrAnswered
	}
	to, conn, target := r.From, r.Conn, r.Target
	if len(opts) > 0 {
		o := gather(opts)
		if o.to.IsValid() {
			to = o.to
		}
		if o.conn != nil {
			conn = o.conn
		}
		if token = token && !o.noToken || o.token; o.withoutCloser {
			target = nil
		}
		m.withheld = o.withheld
	}
	switch {
	case !addressable(to):
		return ErrBadAddress
	case m.code > compact.MaxUint:
		return ErrTooLarge
	}
	m.tid = r.TID
	verified := r.Token != nil && to.Addr() == r.From.Addr()
	r.core.asked = r.size
	if err := r.core.respond(conn, to, m, target, token, verified); err != nil {
		return err
	}
	r.answered = true
	return nil
}

func gather(opts []ReplyOption) (o replyOptions) {
	for _, f := range opts {
		f(&o)
	}
	return o
}

// Relay passes the request on to another node, with another value: the same
// command, target and transaction id, no token. Whoever answers it can answer
// the first requester with [To]. Nothing is awaited, and the request itself
// stays unanswered. Of the options, only Via counts.
func (r *Request) Relay(to netip.AddrPort, value []byte, opts ...ReplyOption) error {
	if !addressable(to) {
		return ErrBadAddress
	}
	conn := r.Conn
	if o := gather(opts); o.conn != nil {
		conn = o.conn
	}
	c := r.core
	m := request{tid: r.TID, to: to, id: c.idOn(conn), command: r.Command, target: r.Target, value: value}
	if m.size() > MaxMessage {
		return ErrTooLarge
	}
	start := len(c.out.buf)
	c.out.buf = m.append(c.out.buf)
	c.out.add(conn, to, 0, start)
	return nil
}

// Detach copies the request, to be answered later from any goroutine. The
// handler then returns true.
func (r *Request) Detach() *Pending {
	p := &Pending{Request: *r, node: r.core.node}
	p.Value = slices.Clone(r.Value)
	p.Target, p.Token, p.FromID = clone(r.Target), clone(r.Token), clone(r.FromID)
	p.Request.core = nil
	r.answered = true
	return p
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// A Pending is a request that is answered after its handler has returned. Its
// fields may be read, and its methods called, from any goroutine but the
// handler's.
type Pending struct {
	Request
	node *Node
}

// Reply answers as [Request.Reply] does. It returns ErrClosed or ErrSuspended
// if the node is that.
func (p *Pending) Reply(value []byte, opts ...ReplyOption) error {
	return p.do(func() error { return p.Request.Reply(value, opts...) })
}

// Error answers as [Request.Error] does.
func (p *Pending) Error(code ErrorCode, opts ...ReplyOption) error {
	return p.do(func() error { return p.Request.Error(code, opts...) })
}

// Relay passes the request on as [Request.Relay] does.
func (p *Pending) Relay(to netip.AddrPort, value []byte, opts ...ReplyOption) error {
	return p.do(func() error { return p.Request.Relay(to, value, opts...) })
}

// Detach panics: the request is detached.
func (p *Pending) Detach() *Pending { panic("dhtrpc: request is detached already") }

func (p *Pending) do(f func() error) error {
	p.node.enter()
	defer p.node.leave()
	if err := p.node.usable(); err != nil {
		return err
	}
	p.Request.core = p.node.core
	defer func() { p.Request.core = nil }()
	return f()
}

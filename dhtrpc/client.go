package dhtrpc

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/udp"
)

// A Message is a command of the application with its arguments.
type Message struct {
	Command uint64
	Target  *ID       // nil: absent
	Token   *[32]byte // from an earlier reply of the node asked; nil: absent
	Value   []byte    // nil: absent

	internal bool
}

// WithConn makes a request through a socket of one's own, which some reader
// must offer to the node ([udp.Serve]). It bears no id.
func WithConn(conn udp.Conn) RequestOption { return func(o *requestOptions) { o.conn = conn } }

// WithID names the id of the node asked. If the request times out and that node
// is in the routing table, it is removed.
func WithID(id ID) RequestOption {
	return func(o *requestOptions) { o.id, o.hasID = id, true }
}

// Request asks a node to carry out a command and waits for the answer. A reply
// with an error code is an answer: see [Reply.Err]. The error wraps ErrTimeout,
// ErrClosed, ErrSuspended, ErrBadAddress, ErrTooLarge, ErrBusy, the reason of a
// closed session, or the context's error.
//
// The answer may come from another address than the one asked, if the node
// relayed the request; whoever minds compares Reply.From.
func (n *Node) Request(ctx context.Context, to netip.AddrPort, m Message, opts ...RequestOption) (Reply, error) {
	o := requestSettings(opts)
	return n.roundTrip(ctx, to, &m, &o)
}

// Ping asks a node for a sign of life.
func (n *Node) Ping(ctx context.Context, to netip.AddrPort, opts ...RequestOption) (Reply, error) {
	o := requestSettings(opts)
	m := Message{internal: true, Command: cmdPing}
	if o.size > 0 {
		m.Value = make([]byte, o.size)
	}
	return n.roundTrip(ctx, to, &m, &o)
}

// PingNAT asks a node to answer to another port of ours, from the socket it was
// asked on, and waits for that answer. Whoever hears it can be reached there by
// that node at least.
func (n *Node) PingNAT(ctx context.Context, to netip.AddrPort, port uint16, opts ...RequestOption) (Reply, error) {
	o := requestSettings(opts)
	m := Message{internal: true, Command: cmdPingNAT, Value: binary.LittleEndian.AppendUint16(nil, port)}
	return n.roundTrip(ctx, to, &m, &o)
}

// DelayedPing asks a node to answer after a delay, in whole milliseconds, of at
// most Config.MaxPingDelay (else ErrDelayTooLong). A node of before version
// 6.24 answers at once with UnknownCommand; one whose own maximum is lower does
// not answer.
func (n *Node) DelayedPing(ctx context.Context, to netip.AddrPort, delay time.Duration, opts ...RequestOption) (Reply, error) {
	if delay < 0 || delay > n.cfg.MaxPingDelay {
		return Reply{}, fmt.Errorf("dhtrpc: delayed ping of %v: %w", delay, ErrDelayTooLong)
	}
	o := requestSettings(opts)
	if o.timeout == 0 {
		o.timeout = delay + requestTimeout
	}
	ms := binary.LittleEndian.AppendUint32(nil, uint32(delay.Milliseconds()))
	return n.roundTrip(ctx, to, &Message{internal: true, Command: cmdDelayedPing, Value: ms}, &o)
}

type result struct {
	reply Reply
	err   error
}

// roundTrip makes a request and waits for its end.
func (n *Node) roundTrip(ctx context.Context, to netip.AddrPort, m *Message, o *requestOptions) (Reply, error) {
	ch := make(chan result, 1)
	p, err := n.start(ctx, to, m, o, func(r *Reply, err error) {
		if r != nil {
			ch <- result{reply: r.clone()}
		} else {
			ch <- result{err: err}
		}
	})
	if err == nil {
		select {
		case res := <-ch:
			if res.err == nil {
				return res.reply, nil
			}
			err = res.err
		case <-ctx.Done():
			err = context.Cause(ctx)
			n.enter()
			n.core.end(p, nil, err)
			n.leave()
		}
	}
	return Reply{}, fmt.Errorf("%s %v: %w", m.name(), to, err)
}

// start makes a request.
func (n *Node) start(ctx context.Context, to netip.AddrPort, m *Message, o *requestOptions, done func(*Reply, error)) (*inflight, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	n.enter()
	defer n.leave()
	if err := n.usable(); err != nil {
		return nil, err
	}
	if err := o.session.usableBy(n); err != nil {
		return nil, err
	}
	var group *requests
	if o.session != nil {
		group = &o.session.group
	}
	out := o.outgoing
	out.to, out.done = to, done
	return n.core.request(m.request(), out, o.retries, group)
}

func (m *Message) request() *request {
	return &request{internal: m.internal, command: m.Command, target: m.Target, token: m.Token, value: m.Value}
}

func (m *Message) name() string {
	if !m.internal {
		return fmt.Sprintf("dhtrpc: command %d to", m.Command)
	}
	switch m.Command {
	case cmdPing:
		return "dhtrpc: ping"
	case cmdPingNAT:
		return "dhtrpc: NAT ping"
	case cmdFindNode:
		return "dhtrpc: find node at"
	}
	return "dhtrpc: delayed ping"
}

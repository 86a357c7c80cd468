package dhtrpc

import (
	"errors"
	"slices"
	"time"
)

// A Session is a group of requests that are cancelled together, such as those
// of one connection attempt. (For requests of one procedure its context does
// the same.) Safe for concurrent use.
type Session struct {
	node *Node

	// Guarded by the node's mutex.
	group   requests
	queries []*Query
	err     error // why it is closed
}

// NewSession returns a session without requests.
func (n *Node) NewSession() *Session { return &Session{node: n} }

// Close cancels the requests under way, and those made later at once. They end
// with err, or with ErrSessionClosed if err is nil. Only the first call counts.
func (s *Session) Close(err error) {
	if err == nil {
		err = ErrSessionClosed
	}
	s.node.enter()
	defer s.node.leave()
	if s.err == nil {
		s.err = err
		s.node.core.cancel(&s.group, err)
		for _, q := range s.queries {
			q.stopLocked(err)
		}
	}
}

// usableBy returns why a node can make no request in the session, nil if it can.
// The node's lock is held.
func (s *Session) usableBy(n *Node) error {
	switch {
	case s == nil:
		return nil
	case s.node != n:
		return errForeignSession
	}
	return s.err
}

var errForeignSession = errors.New("dhtrpc: session of another node")

// remove forgets a query that has ended. The node's lock is held.
func (s *Session) remove(q *Query) {
	s.queries = slices.DeleteFunc(s.queries, func(x *Query) bool { return x == q })
}

// A RequestOption changes how a request is made.
type RequestOption func(*requestOptions)

type requestOptions struct {
	outgoing
	retries int
	session *Session
	size    int
}

func requestSettings(opts []RequestOption) requestOptions {
	o := requestOptions{retries: defaultRetries}
	for _, f := range opts {
		f(&o)
	}
	return o
}

// WithRetries sets the number of transmissions after the first; 3. 0 is none.
func WithRetries(n int) RequestOption { return func(o *requestOptions) { o.retries = max(n, 0) } }

// NoRetry transmits once.
func NoRetry() RequestOption { return WithRetries(0) }

// WithTimeout sets how long each transmission waits for the answer; 1 s, or
// what Config.AdaptiveTimeout makes of it.
func WithTimeout(d time.Duration) RequestOption {
	return func(o *requestOptions) { o.timeout, o.maxTimeout = d, 0 }
}

// WithBackoff lets the first transmission wait that long for the answer and
// each later one twice as long as the one before it, at most max. Requests that
// are relayed, which need four datagrams to arrive, are better repeated soon.
func WithBackoff(first, max time.Duration) RequestOption {
	return func(o *requestOptions) { o.timeout, o.maxTimeout = first, max }
}

// WithTTL sets the hop limit of the request's datagrams; 0 is the default, 64.
func WithTTL(ttl uint8) RequestOption { return func(o *requestOptions) { o.ttl = ttl } }

// WithSession makes the request a part of a session of the same node.
func WithSession(s *Session) RequestOption { return func(o *requestOptions) { o.session = s } }

// WithSize pads a ping with so many zero bytes.
func WithSize(n int) RequestOption { return func(o *requestOptions) { o.size = n } }

package mainline

import (
	"context"
	"slices"
	"time"
)

// A Refusal is a node's answer that it does not store something.
type Refusal struct {
	Node Contact
	Err  *Error
}

// Stored says where something was stored, and where not and why.
type Stored struct {
	Target   ID
	Nodes    []Contact // that stored it
	Refused  []Refusal
	TimedOut int // nodes that did not answer
}

// N is the number of nodes that stored it.
func (s *Stored) N() int { return len(s.Nodes) }

// err is nil if something was stored, else the most telling reason: an error of
// the 300s, then any other, as in bittorrent-dht.
func (s *Stored) err() error {
	if len(s.Nodes) > 0 {
		return nil
	}
	for _, r := range s.Refused {
		if r.Err.Code >= 300 && r.Err.Code < 400 {
			return r.Err
		}
	}
	if len(s.Refused) > 0 {
		return s.Refused[0].Err
	}
	return ErrNotStored
}

// store asks each holder of a token to store something, all at once; write makes
// the request for one of them. It is a procedure.
func (n *Node) store(ctx context.Context, target key, holders []holder, write func(holder) request) (Stored, error) {
	st := Stored{Target: n.id(target)}
	if len(holders) == 0 {
		return st, ErrNoNodes
	}
	var m message
	f := n.newFan(len(holders), func(e event) {
		contact := Contact{ID: n.id(holders[e.part].ID), Addr: e.from}
		switch {
		case e.kind != queryAnswer || m.parse(e.data) != nil:
			st.TimedOut++
		case m.kind == 'r':
			st.Nodes = append(st.Nodes, contact)
		default:
			st.Refused = append(st.Refused, Refusal{contact, m.error()})
		}
	})
	defer f.end()
	for i, h := range holders {
		req := write(h)
		if err := f.send(ctx, n.sockets[h.socket], &req, query{to: h.Addr, id: h.ID, knownID: true, part: i}); err != nil {
			return st, err
		}
	}
	if err := f.wait(ctx); err != nil {
		return st, err
	}
	return st, st.err()
}

// error is the error in a message.
func (m *message) error() *Error {
	return &Error{Code: m.code, Text: string(m.text[:min(len(m.text), 256)])}
}

// remembered are the tokens for a target that an earlier walk gathered, at most
// tokenAge ago, on each of the given sockets.
func (n *Node) remembered(target key, sockets []*socket) ([]holder, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	list, _, ok := n.tokens.Get(n.clock.Now(time.Now()), target)
	if !ok {
		return nil, false
	}
	for _, s := range sockets {
		if !slices.ContainsFunc(list, func(h holder) bool { return h.socket == s.index }) {
			return nil, false
		}
	}
	return list, true
}

// forgetTokens drops the remembered tokens of a target.
func (n *Node) forgetTokens(target key) {
	n.mu.Lock()
	n.tokens.Delete(target)
	n.mu.Unlock()
}

// stale reports whether every node refused because its token had changed.
func (s *Stored) stale() bool {
	for _, r := range s.Refused {
		if r.Err.Code != CodeProtocol {
			return false
		}
	}
	return len(s.Nodes) == 0
}

package mainline

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"time"
)

// PutOptions change how an item is put. The zero value is the usual.
type PutOptions struct {
	// CAS demands that a node holds the item with this seq, or does not hold it
	// at all (compare and swap).
	CAS *int64
	// NoLocal does not keep a copy in this node's own store.
	NoLocal bool
}

// Put stores an item at the nodes nearest to its target. It looks them up
// first, unless a get or put of the same target within the last five minutes
// left their tokens. The error is that of [Stored] if no node stored it, an
// [*Error] with [CodeCASMismatch] or [CodeSeqTooLow] before all others; the
// result is valid with an error too. What [Node.Get] returned can be put again:
// its signature stays good. Nodes drop it after two hours, see [Node.Keep].
func (n *Node) Put(ctx context.Context, item Item, opts ...PutOptions) (Stored, error) {
	var o PutOptions
	if len(opts) > 0 {
		o = opts[0]
	}
	if err := item.check(); err != nil {
		return Stored{}, err
	}
	target := item.target(n.cfg.Hash)
	if !o.NoLocal {
		kept := item
		n.mu.Lock()
		n.keepItem(time.Now(), target, &kept, o.CAS, n.ownSource())
		n.mu.Unlock()
	}
	// Of each node the walk learns which seq it holds. A node that holds none
	// gets no cas (docs/spec/mainline.md §15.3).
	req := func(h holder) request {
		r := request{method: methodPut, token: h.token, item: &item}
		if h.seq != nil {
			r.cas = o.CAS
		}
		return r
	}
	sockets := n.oneEach()
	if holders, ok := n.remembered(target, sockets); ok && o.CAS == nil {
		st, err := n.putAt(ctx, target, &item, holders, req)
		if !st.stale() || ctx.Err() != nil {
			return st, err
		}
		n.forgetTokens(target)
	}
	w := n.newWalk(request{method: methodGet, target: target}, sockets)
	if err := w.run(ctx); err != nil {
		return Stored{Target: n.id(target)}, err
	}
	n.finished(w)
	return n.putAt(ctx, target, &item, w.nearestHolders(), req)
}

// putAt stores an item at the holders of tokens, and notes who holds it now.
func (n *Node) putAt(ctx context.Context, target key, item *Item, holders []holder, req func(holder) request) (Stored, error) {
	st, err := n.store(ctx, target, holders, req)
	st.settle(item, holders)
	if _, refused := err.(*Error); refused && st.N() > 0 {
		err = nil
	}
	if st.N() == 0 || !item.Mutable() {
		return st, err
	}
	holders = slices.Clone(holders)
	for i := range holders {
		if h := &holders[i]; st.has(h.Addr) {
			h.seq, h.sig = &item.Seq, item.Signature
		}
	}
	n.mu.Lock()
	if _, since, ok := n.tokens.Get(n.clock.Now(time.Now()), target); ok {
		n.tokens.Put(since, target, holders, struct{}{}) // no younger for it
	}
	n.mu.Unlock()
	return st, err
}

// has reports whether the node at an address stored it.
func (s *Stored) has(a netip.AddrPort) bool {
	return slices.ContainsFunc(s.Nodes, func(c Contact) bool { return c.Addr == a })
}

// settle counts a node that refused an item because its seq is not higher than
// what the node holds, and that holds this very item, among those that store
// it: bittorrent-dht does so when an item is put again
// (docs/spec/mainline.md §24).
func (s *Stored) settle(item *Item, holders []holder) {
	s.Refused = slices.DeleteFunc(s.Refused, func(r Refusal) bool {
		there := r.Err.Code == CodeSeqTooLow && slices.ContainsFunc(holders, func(h holder) bool {
			return h.Addr == r.Node.Addr && h.seq != nil && *h.seq == item.Seq && bytes.Equal(h.sig, item.Signature)
		})
		if there {
			s.Nodes = append(s.Nodes, r.Node)
		}
		return there
	})
}

// ownSource is whom the node's own items are charged to.
func (n *Node) ownSource() netip.Addr { return n.Addr().Addr() }

// keepItem keeps an item for others. The caller holds the mutex.
func (n *Node) keepItem(now time.Time, target key, item *Item, cas *int64, from netip.Addr) Code {
	now = n.clock.Now(now)
	code := n.items.put(now, target, item, cas, from)
	if code == 0 {
		n.journal.item(now, target[:n.idLen], item, from)
	}
	return code
}

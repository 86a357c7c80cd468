package mainline

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"time"

	"github.com/warren-dht/warren/bencode"
)

// GetOptions describe a get. The zero value gets an immutable item, or a
// mutable one without salt.
type GetOptions struct {
	// Salt is that of the mutable item.
	Salt []byte
	// NoCache leaves out this node's own store.
	NoCache bool
	// MinSeq asks only for a mutable item with at least this seq.
	MinSeq int64
	// First returns the first valid mutable item instead of the newest.
	First bool
	// Verify checks the signatures instead of Config.Verify (verify).
	Verify Verify
}

// Found is an item that was found, and how sure that is.
type Found struct {
	Item
	From    Contact // the node that returned it first; the zero Contact: our own store
	Replied int     // nodes that answered
	Agree   int     // nodes that returned this very item
	Older   int     // nodes that returned an older one
	Invalid int     // nodes that returned something that is not the item
}

// Get finds the item stored under a target: the first valid value of an
// immutable item, and of a mutable one the newest that any of the nearest nodes
// has, with the number of nodes that agree. What does not verify is passed over.
// The error is [ErrNotFound], the context's, or [ErrClosed]; with the
// context's, what was found until then is returned too.
func (n *Node) Get(ctx context.Context, target ID, opts ...GetOptions) (*Found, error) {
	if err := n.checkID(target); err != nil {
		return nil, err
	}
	g := getter{n: n, target: target.key}
	if len(opts) > 0 {
		g.opts = opts[0]
	}
	if g.opts.Verify == nil {
		g.opts.Verify = n.cfg.Verify
	}
	if !g.opts.NoCache {
		n.mu.Lock()
		own := n.items.get(n.clock.Now(time.Now()), target.key)
		n.mu.Unlock()
		if own != nil && own.Seq >= g.opts.MinSeq {
			g.best = &Found{Item: *own}
			if !own.Mutable() || g.opts.First {
				return g.best, nil
			}
		}
	}
	req := request{method: methodGet, target: target.key}
	if g.opts.MinSeq > 0 {
		before := g.opts.MinSeq - 1
		req.minSeq = &before
	}
	w := n.newWalk(req, n.oneEach())
	w.visit = g.visit
	err := w.run(ctx)
	n.finished(w)
	if err == nil && (g.best == nil || g.best.Mutable()) {
		g.askAgain(ctx)
	}
	if g.best == nil {
		if err == nil {
			err = ErrNotFound
		}
		return nil, err
	}
	g.best.Replied, g.best.Invalid = g.replied, g.invalid
	return g.best, err
}

// GetMutable is Get for the mutable item of a public key.
func (n *Node) GetMutable(ctx context.Context, publicKey, salt []byte, opts ...GetOptions) (*Found, error) {
	var o GetOptions
	if len(opts) > 0 {
		o = opts[0]
	}
	o.Salt = salt
	k := (&Item{Key: publicKey, Salt: salt}).target(n.cfg.Hash)
	return n.Get(ctx, n.id(k), o)
}

// A getter is a get under way. Owned by its procedure.
type getter struct {
	n        *Node
	target   key
	opts     GetOptions
	best     *Found
	replied  int
	invalid  int
	shadowed []holder // nodes that returned an unsigned value
}

// visit looks at an answer, and ends the walk at an immutable item.
func (g *getter) visit(a *answer) bool {
	g.replied++
	if a.body.any(hasValue) {
		g.take(a.from, a.part.s.index, a.body)
	}
	return g.best == nil || g.best.Mutable() && !g.opts.First
}

// take looks at the value in a response. It must hash or be signed as the
// target says; its bytes are taken exactly as they came. It may be longer than
// MaxValue, which bittorrent-dht counts without the length in front, and lists
// and dicts not at all: who holds such a value has it to give.
func (g *getter) take(from point, socket int, b *body) {
	contact := Contact{ID: g.n.id(from.ID), Addr: from.Addr}
	item := Item{Value: bytes.Clone(b.value)}
	if b.any(hasKey) {
		item.Key, item.Salt = bytes.Clone(b.key), bytes.Clone(g.opts.Salt)
		item.Signature, item.Seq = bytes.Clone(b.sig), b.seq
	}
	if bencode.Check(item.Value) != nil || item.target(g.n.cfg.Hash) != g.target {
		g.invalid++
		if !item.Mutable() && len(g.shadowed) < 2*K {
			g.shadowed = append(g.shadowed, holder{point: from, socket: socket})
		}
		return
	}
	if !item.Mutable() {
		g.best = &Found{Item: item, From: contact, Agree: 1}
		return
	}
	switch {
	case !b.any(hasSeq) || item.Seq < g.opts.MinSeq || len(item.Signature) != ed25519.SignatureSize:
		g.invalid++
	case g.best != nil && g.best.same(&item):
		g.best.Agree++ // nothing to verify again
		if !g.best.From.Addr.IsValid() {
			g.best.From = contact
		}
	case !g.opts.Verify(item.Signature, appendSigned(nil, item.Salt, item.Seq, item.Value), item.Key):
		g.invalid++
	case g.best == nil:
		g.best = &Found{Item: item, From: contact, Agree: 1}
	case item.Seq > g.best.Seq:
		g.best = &Found{Item: item, From: contact, Agree: 1, Older: g.best.Older + g.best.Agree}
	default:
		g.best.Older++
	}
}

// same reports whether two mutable items of one target are equal in all bytes.
func (i *Item) same(j *Item) bool {
	return i.Seq == j.Seq && bytes.Equal(i.Signature, j.Signature) && bytes.Equal(i.Value, j.Value)
}

// askAgain asks nodes that returned an unsigned value for anything newer than
// seq 0: libtorrent 2.0.8 lets anybody put such a value in front of the signed
// item, and then still has that (docs/spec/mainline.md §24).
func (g *getter) askAgain(ctx context.Context) {
	if len(g.shadowed) == 0 {
		return
	}
	n, asked := g.n, g.shadowed
	var m message
	f := n.newFan(len(asked), func(e event) {
		if e.kind == queryAnswer && m.parse(e.data) == nil && m.kind == 'r' && m.body.any(hasKey) && m.body.any(hasValue) {
			g.take(asked[e.part].point, asked[e.part].socket, &m.body)
		}
	})
	defer f.end()
	zero := int64(0)
	req := request{method: methodGet, target: g.target, minSeq: &zero}
	for i, h := range asked {
		if f.send(ctx, n.sockets[h.socket], &req, query{to: h.Addr, id: h.ID, knownID: true, part: i}) != nil {
			return
		}
	}
	f.wait(ctx)
}

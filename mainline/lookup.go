package mainline

import (
	"context"
	"iter"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/bencode"
)

// A Lookup searches for the peers of a torrent. It is used once, by one
// goroutine.
type Lookup struct {
	n        *Node
	infoHash ID
	opts     LookupOptions
	stats    LookupResult
	err      error
}

// LookupOptions change what a lookup asks for. The zero value is the usual.
type LookupOptions struct {
	// NoSeeds asks nodes to prefer peers that are not seeding (BEP 33).
	NoSeeds bool
	// Scrape asks nodes for their estimates of how many seeds and peers there
	// are (BEP 33), for [LookupResult].
	Scrape bool
	// KeepDuplicates yields a peer each time it is named; otherwise once.
	KeepDuplicates bool
	// NoLocal leaves out the peers that were announced to this node itself.
	NoLocal bool
}

// A Peer is one that a lookup found.
type Peer struct {
	Addr netip.AddrPort
	From Contact // the node that named it; the zero Contact: this node
}

// LookupResult says how well a lookup went.
type LookupResult struct {
	Replied   int // nodes that answered
	WithPeers int // nodes that named a peer
	Peers     int // different peers found
	// Seeds and Downloaders are estimated from the union of the filters of all
	// nodes (BEP 33); 0 without LookupOptions.Scrape.
	Seeds, Downloaders float64
}

// Lookup prepares a search for the peers of a torrent. Nothing happens before
// [Lookup.Peers].
func (n *Node) Lookup(infoHash ID, opts ...LookupOptions) *Lookup {
	l := &Lookup{n: n, infoHash: infoHash}
	if len(opts) > 0 {
		l.opts = opts[0]
	}
	return l
}

// Peers walks towards the info-hash and yields the peers that nodes name, as
// they come: first those announced to this node itself. The walk stops when the
// loop is left. [Lookup.Result] and [Lookup.Err] are for afterwards. The tokens
// that it gathered serve an [Node.Announce] within five minutes.
func (l *Lookup) Peers(ctx context.Context) iter.Seq[Peer] {
	return func(yield func(Peer) bool) {
		n := l.n
		if l.err = n.checkID(l.infoHash); l.err != nil {
			return
		}
		seen := make(map[netip.AddrPort]struct{})
		give := func(p Peer) bool {
			if _, again := seen[p.Addr]; again && !l.opts.KeepDuplicates {
				return true
			}
			if len(seen) < maxPeersSeen {
				seen[p.Addr] = struct{}{}
			}
			l.stats.Peers = len(seen)
			n.mu.Lock()
			n.emit(Event{Kind: EventPeer, ID: l.infoHash, Addr: p.Addr, From: p.From.Addr})
			n.mu.Unlock()
			return yield(p)
		}
		if !l.opts.NoLocal {
			for _, a := range n.localPeers(l.infoHash.key) {
				if !give(Peer{Addr: a}) {
					return
				}
			}
		}
		var seeds, downloaders Filter
		w := n.newWalk(request{
			method: methodGetPeers, target: l.infoHash.key, noSeed: l.opts.NoSeeds, scrape: l.opts.Scrape,
		}, n.oneEach())
		w.visit = func(a *answer) bool {
			l.stats.Replied++
			if f := a.body; len(f.bloomSeeds) == len(seeds) && len(f.bloomPeers) == len(downloaders) {
				seeds.Union((*Filter)(f.bloomSeeds))
				downloaders.Union((*Filter)(f.bloomPeers))
			}
			from := Contact{ID: n.id(a.from.ID), Addr: a.from.Addr}
			any, more := false, true
			for p := range peerValues(a) {
				any = true
				if more = give(Peer{Addr: p, From: from}); !more {
					break
				}
			}
			if any {
				l.stats.WithPeers++
			}
			return more
		}
		l.err = w.run(ctx)
		l.stats.Seeds, l.stats.Downloaders = seeds.Estimate(), downloaders.Estimate()
		n.finished(w)
	}
}

// maxPeersSeen bounds what a lookup remembers in order to name each peer once.
const maxPeersSeen = 1 << 16

// Result says how well the lookup went.
func (l *Lookup) Result() LookupResult { return l.stats }

// Err is why the lookup ended early: the context's error, or [ErrClosed]. It is
// nil if it ran to its end or was left.
func (l *Lookup) Err() error { return l.err }

// Scrape estimates how many seeds and downloaders a torrent has (BEP 33).
func (n *Node) Scrape(ctx context.Context, infoHash ID) (LookupResult, error) {
	l := n.Lookup(infoHash, LookupOptions{Scrape: true})
	for range l.Peers(ctx) {
	}
	return l.Result(), l.Err()
}

// peerValues are the peers in an answer: strings of 6 or 18 bytes, and the old
// form in which one string holds many IPv4 peers (docs/spec/mainline.md §4).
func peerValues(a *answer) iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		r := bencode.NewReader(a.body.values)
		if len(a.body.values) == 0 || !r.List() {
			return
		}
		for r.More() {
			b, ok := r.Bytes()
			if !ok {
				continue
			}
			step := len(b)
			if step != peer6Size && step%peer4Size == 0 {
				step = peer4Size
			}
			for ; len(b) >= step && step > 0; b = b[step:] {
				p, ok := parseAddr(b[:step])
				if ok && routable(p, a.from.Addr.Addr()) && !yield(p) {
					return
				}
			}
		}
	}
}

// localPeers are peers of an info-hash that were announced to this node.
func (n *Node) localPeers(infoHash key) (list []netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.peers {
		list = p.sample(list, n.clock.Now(time.Now()), infoHash, maxLocalPeers, false, n.rnd)
	}
	return list
}

// maxLocalPeers is how many of the peers announced to this node a lookup yields.
const maxLocalPeers = 100

// finished remembers the tokens that a walk gathered, and learns the network's
// size from the distances that it found. A walk that was left early has not met
// the nearest nodes and leaves nothing.
func (n *Node) finished(w *walk) {
	if !w.complete {
		return
	}
	holders := w.nearestHolders()
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(holders) > 0 && !w.upkeep {
		n.tokens.Put(n.clock.Now(now), w.req.target, holders, struct{}{})
	}
	for _, p := range w.parts {
		if closest := p.search.Closest(); p.s.index == n.byFamily[family(p.s.is6)].index {
			n.size[family(p.s.is6)].add(w.req.target, closest)
		}
	}
}

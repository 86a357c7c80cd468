package hyperdht

import (
	"context"
	"iter"
	"net/netip"

	"github.com/warren-dht/warren/dhtrpc"
)

// A FoundPeer is a peer as one node told it. Others may tell the same again.
type FoundPeer struct {
	Peer
	From netip.AddrPort // the node that told
	To   netip.AddrPort // our address as that node sees it
	// Bump is the topic's at that node; anybody can set it, up to a minute
	// ahead of the time.
	Bump uint64
}

// Lookup asks the nodes closest to a topic for those who announced it, and
// yields them as they come, the same peer once for each node that tells it.
// Each node tells at most 20, drawn at random. An error comes last, and ends the
// walk; leaving the loop ends it at once.
func (n *Node) Lookup(ctx context.Context, topic Target, opts ...QueryOption) iter.Seq2[FoundPeer, error] {
	return func(yield func(FoundPeer, error) bool) {
		id := dhtrpc.ID(topic)
		q := n.rpc.Query(dhtrpc.Message{Command: cmdLookup, Target: &id}, queryOptions(opts...))
		for r, err := range q.Replies(ctx) {
			if err != nil {
				yield(FoundPeer{}, tried("lookup of", topic, err))
				return
			}
			for _, p := range foundPeers(&r) {
				if !yield(p, nil) {
					return
				}
			}
		}
	}
}

// foundPeers are the peers in a reply to LOOKUP, none if it makes no sense.
func foundPeers(r *dhtrpc.Reply) []FoundPeer {
	if r.Value == nil {
		return nil
	}
	l, err := parseLookupReply(r.Value)
	if err != nil {
		return nil
	}
	found := make([]FoundPeer, len(l.records))
	for i, p := range l.records {
		found[i] = FoundPeer{Peer: p.peer(), From: r.From, To: r.To, Bump: l.bump}
	}
	return found
}

// FindPeer asks the nodes closest to the hash of a public key for its owner,
// who announces himself there while he listens, and yields what they tell, as
// it comes. A node that tells can forward to the peer: see Dial. An error comes
// last, and ends the walk; leaving the loop ends it at once.
func (n *Node) FindPeer(ctx context.Context, key PublicKey, opts ...QueryOption) iter.Seq2[FoundPeer, error] {
	return n.FindPeerAt(ctx, TargetOf(key), opts...)
}

// FindPeerAt is [Node.FindPeer] for somebody whose key is not known, only its
// hash.
func (n *Node) FindPeerAt(ctx context.Context, target Target, opts ...QueryOption) iter.Seq2[FoundPeer, error] {
	return func(yield func(FoundPeer, error) bool) {
		id := dhtrpc.ID(target)
		q := n.rpc.Query(dhtrpc.Message{Command: cmdFindPeer, Target: &id}, queryOptions(opts...))
		for r, err := range q.Replies(ctx) {
			if err != nil {
				yield(FoundPeer{}, tried("search for", target, err))
				return
			}
			if p, ok := foundPeer(&r, target); ok && !yield(p, nil) {
				return
			}
		}
	}
}

// foundPeer is the peer in a reply to FIND_PEER; ok is false if there is none,
// or one that has no business there.
func foundPeer(r *dhtrpc.Reply, target Target) (p FoundPeer, ok bool) {
	if r.Value == nil {
		return p, false
	}
	m, err := parsePeerRecord(r.Value)
	if err != nil || TargetOf(m.key) != target {
		return p, false
	}
	return FoundPeer{Peer: m.peer(), From: r.From, To: r.To}, true
}

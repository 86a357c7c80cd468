package hyperdht

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/dhtrpc"
)

// ErrTooManyRelays means that an announcement names more than three relays.
var ErrTooManyRelays = errors.New("hyperdht: more than three relay addresses")

// AnnounceOptions change an announcement. The zero value is good.
type AnnounceOptions struct {
	// Relays are up to three nodes that forward to us, for those who look the
	// topic up. For 13 minutes nodes keep the ones they were told first, unless
	// Clear is set.
	Relays []netip.AddrPort
	// Bump, if not 0, is offered as the topic's bump, such as the Unix time in
	// milliseconds. Nodes take a higher one up to a minute ahead.
	Bump uint64
	// Clear removes an earlier announcement first.
	Clear bool
	// Found, if not nil, is called for each peer that the lookup on the way
	// meets, as [Node.Lookup] would yield it.
	Found func(FoundPeer)
	// Query changes how the query beneath walks.
	Query QueryOption
}

// Announce tells the nodes closest to a topic that the signer's key is to be
// found under it. They remember it for twenty minutes. It fails if no node
// accepts it.
func (n *Node) Announce(ctx context.Context, topic Target, signer crypto.Signer, o AnnounceOptions) (Stored, error) {
	key, err := publicKeyOf(signer)
	if err != nil {
		return Stored{}, err
	}
	if len(o.Relays) > maxRelays {
		return Stored{}, fmt.Errorf("%w: %d", ErrTooManyRelays, len(o.Relays))
	}
	if o.Bump > compact.MaxUint {
		return Stored{}, fmt.Errorf("hyperdht: bump %d above 2^53-1", o.Bump)
	}
	for _, a := range o.Relays {
		if !sendable(a) {
			return Stored{}, fmt.Errorf("hyperdht: relay %v: %w", a, dhtrpc.ErrBadAddress)
		}
	}
	a := announcement{peer: &peerRecord{key, packAddrs(o.Relays)}, bump: o.Bump}
	s, err := n.announceWith(ctx, topic, key, signer, o, announceCommit(cmdAnnounce, topic, a, signer))
	return s, tried("announce of", topic, err)
}

// Unannounce removes the announcements of the signer's key at the nodes closest
// to a topic, as far as they tell that they have one. Nodes that are not
// reached forget it by themselves. Of the options, Found and Query count.
func (n *Node) Unannounce(ctx context.Context, topic Target, signer crypto.Signer, o AnnounceOptions) error {
	key, err := publicKeyOf(signer)
	if err != nil {
		return err
	}
	o.Clear = true
	_, err = n.announceWith(ctx, topic, key, signer, o, nil)
	return tried("unannounce of", topic, err)
}

// announceWith looks a topic up, unannounces on the way if that is asked for,
// and commits at the end unless request is nil.
func (n *Node) announceWith(ctx context.Context, topic Target, key PublicKey, signer crypto.Signer, o AnnounceOptions, request commit) (Stored, error) {
	var each func(*dhtrpc.Reply)
	var clear *clearing
	if o.Clear {
		n.rpc.Do(func() { n.records.storage.forget(topic, key) })
		clear = &clearing{
			node: n, ctx: ctx, key: key,
			request: announceCommit(cmdUnannounce, topic, announcement{peer: &peerRecord{key: key}}, signer),
		}
		defer clear.running.Wait()
	}
	if o.Clear || o.Found != nil {
		each = func(r *dhtrpc.Reply) {
			found := foundPeers(r)
			if clear != nil {
				clear.look(r, found)
			}
			if o.Found != nil {
				for _, p := range found {
					o.Found(p)
				}
			}
		}
	}
	closest, err := n.walk(ctx, dhtrpc.Message{Command: cmdLookup, Target: (*dhtrpc.ID)(&topic)}, o.Query, each)
	if err != nil || request == nil {
		return Stored{Target: topic}, err
	}
	if clear != nil {
		clear.running.Wait()
	}
	return n.commitAll(ctx, topic, closest, request)
}

// announceCommit signs an announcement for each node that is to have it.
func announceCommit(command uint64, target Target, a announcement, signer crypto.Signer) commit {
	ns := &nsAnnounce
	if command == cmdUnannounce {
		ns = &nsUnannounce
	}
	return func(node dhtrpc.ID, token *[32]byte) (dhtrpc.Message, error) {
		message := a.signable(ns, &target, (*[32]byte)(&node), token)
		sig, err := sign(signer, message[:])
		if err != nil {
			return dhtrpc.Message{}, err
		}
		signed := a
		signed.signature = &sig
		return dhtrpc.Message{Command: command, Target: (*dhtrpc.ID)(&target), Value: signed.append(nil)}, nil
	}
}

// clearing removes announcements of a key while a lookup walks.
type clearing struct {
	node    *Node
	ctx     context.Context
	key     PublicKey
	request commit
	running sync.WaitGroup
}

// look unannounces at a node that has the key, or may have it but tells only
// some of its peers.
func (c *clearing) look(r *dhtrpc.Reply, found []FoundPeer) {
	node, ok := r.Contact()
	if !ok || r.Token == nil {
		return
	}
	has := len(found) >= lookupReplyPeers
	for i := range found {
		has = has || found[i].PublicKey == c.key
	}
	if !has {
		return
	}
	token := *r.Token
	c.running.Go(func() {
		c.node.commitTo(c.ctx, node, &token, c.request) // a node that does not answer forgets in time
	})
}

package hyperdht

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/warren-dht/warren/dhtrpc"
)

// amongLiars runs f in a network of which half the nodes answer as the liar
// does.
func amongLiars(t *testing.T, liar func(*dhtrpc.Request) bool, f func(tn *recordsNet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		tn := newRecordsNet(t, 10)
		tn.liar = liar
		for range 10 {
			tn.add(nil, nil, dhtrpc.Never)
		}
		tn.liar = nil
		tn.add(nil, nil, dhtrpc.Always)
		f(tn)
	})
}

// docs/spec/hyperdht-records.md §20: "client: reply value that does not decode,
// does not hash or does not verify: that reply is dropped from results".
func TestForgedValuesAreDropped(t *testing.T) {
	victim := testKey(1)
	mallory := testKey(66)
	forged, _ := SignMutable(mallory, MaxSeq, []byte("forged")) // a good signature of another key
	small := [32]byte{1}                                        // signs everything
	liar := func(r *dhtrpc.Request) bool {
		switch r.Command {
		case cmdImmutableGet:
			r.Reply([]byte("another value"))
		case cmdMutableGet:
			r.Reply(forged.wire().append(nil))
		case cmdFindPeer:
			r.Reply(peerRecord{key: PublicKey(mallory[32:])}.append(nil))
		default:
			return false
		}
		return true
	}
	amongLiars(t, liar, func(tn *recordsNet) {
		ctx, client := tn.Context(), tn.nodes[20]
		if _, err := client.ImmutableGet(ctx, topic); !errors.Is(err, ErrNotFound) {
			tn.Errorf("immutable: %v", err)
		}
		for _, o := range []GetOptions{{}, {First: true}} {
			if _, err := client.MutableGet(ctx, keyOf(victim), o); !errors.Is(err, ErrNotFound) {
				tn.Errorf("mutable: %v", err)
			}
		}
		if r, err := client.MutableGet(ctx, small, GetOptions{}); !errors.Is(err, ErrNotFound) {
			tn.Errorf("a key of small order: %+v, %v", r, err)
		}
		if tn.finds(client, keyOf(victim)) {
			tn.Error("a record of another key was believed")
		}

		// And the true ones among them are found.
		_, _, err := client.MutablePut(ctx, victim, 1, []byte("true"), PutOptions{})
		tn.must("put", err)
		if r, err := client.MutableGet(ctx, keyOf(victim), GetOptions{}); err != nil || r.Seq != 1 || string(r.Value) != "true" {
			tn.Errorf("%+v, %v", r, err)
		}
		put, err := client.ImmutablePut(ctx, []byte("true"), PutOptions{})
		tn.must("put", err)
		if r, err := client.ImmutableGet(ctx, put.Target); err != nil || string(r.Value) != "true" {
			tn.Errorf("%q, %v", r.Value, err)
		}
	})
}

// Replies made of noise do no harm, whatever is asked.
func TestNoiseInReplies(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	var mu sync.Mutex // ten nodes share it
	liar := func(r *dhtrpc.Request) bool {
		if r.Command < cmdFindPeer {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		value := make([]byte, rnd.IntN(300))
		for i := range value {
			value[i] = byte(rnd.Uint32())
		}
		if len(value) > 0 && rnd.IntN(2) == 0 {
			value[0] = byte(rnd.IntN(4))
		}
		switch rnd.IntN(6) {
		case 0:
			r.Error(dhtrpc.ErrorCode(rnd.IntN(20)), dhtrpc.WithToken())
		case 1:
			r.Reply(value, dhtrpc.WithoutToken())
		case 2: // nothing
		default:
			r.Reply(value)
		}
		return true
	}
	amongLiars(t, liar, func(tn *recordsNet) {
		ctx, client := tn.Context(), tn.nodes[20]
		for i := range byte(20) {
			key := testKey(i)
			_, err := client.ImmutablePut(ctx, []byte{i}, PutOptions{})
			tn.must("immutable put", err)
			if r, err := client.ImmutableGet(ctx, Hash([]byte{i})); err != nil || !bytes.Equal(r.Value, []byte{i}) {
				tn.Errorf("immutable: %v, %v", r.Value, err)
			}
			_, _, err = client.MutablePut(ctx, key, 1, []byte{i}, PutOptions{})
			tn.must("mutable put, although liars say that there is a later one", err)
			if r, err := client.MutableGet(ctx, keyOf(key), GetOptions{}); err != nil || !bytes.Equal(r.Value, []byte{i}) {
				tn.Errorf("mutable: %v, %v", r.Value, err)
			}
			_, err = client.Announce(ctx, topic, key, AnnounceOptions{Clear: i%2 == 0})
			tn.must("announce", err)
		}
		found := tn.lookup(client, topic)
		for i := range byte(20) {
			if _, ok := found[keyOf(testKey(i))]; !ok {
				tn.Errorf("peer %d is not found", i)
			}
		}
		for i := range byte(20) {
			tn.must("unannounce", client.Unannounce(ctx, topic, testKey(i), AnnounceOptions{}))
		}
	})
}

// A node that repeats what another answered gains nothing: signatures of
// announcements hold for one node and one token.
func TestReplayedAnnouncement(t *testing.T) {
	inNet(t, 3, func(tn *recordsNet) {
		ctx := tn.Context()
		var caught []byte // by the first node, as somebody on its wire would
		client, first, second := tn.nodes[0], tn.nodes[1], tn.nodes[2]
		ask := dhtrpc.Message{Command: cmdLookup, Target: (*dhtrpc.ID)(&topic)}
		r, err := client.rpc.Request(ctx, first.rpc.PublicAddr(), ask)
		tn.must("lookup", err)
		node, _ := r.Contact()
		request := announceCommit(cmdAnnounce, topic, announcement{peer: &peerRecord{key: keyOf(testKey(1))}}, testKey(1))
		_, err = client.commitTo(ctx, node, r.Token, func(id dhtrpc.ID, token *[32]byte) (dhtrpc.Message, error) {
			m, err := request(id, token)
			caught = m.Value
			return m, err
		})
		tn.must("announce", err)

		r, err = first.rpc.Request(ctx, second.rpc.PublicAddr(), ask)
		tn.must("lookup", err)
		m := dhtrpc.Message{Command: cmdAnnounce, Target: ask.Target, Token: r.Token, Value: caught}
		if _, err := first.rpc.Request(ctx, second.rpc.PublicAddr(), m); !errors.Is(err, dhtrpc.ErrTimeout) {
			tn.Errorf("replayed at another node: %v", err)
		}
		m.Token = &[32]byte{1}
		if r, err := first.rpc.Request(ctx, second.rpc.PublicAddr(), m); err != nil || r.Error != dhtrpc.InvalidToken || r.Token == nil {
			tn.Errorf("a made-up token: %+v, %v", r, err)
		}
		if len(tn.forwards(keyOf(testKey(1)))) != 0 || second.records.storage.peers.Len() != 0 {
			tn.Error("stored")
		}
	})
}

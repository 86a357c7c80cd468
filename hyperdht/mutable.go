package hyperdht

import (
	"bytes"
	"context"
	"crypto"
	"net/netip"

	"github.com/warren-dht/warren/dhtrpc"
)

// MutablePut signs a value and stores it at the nodes closest to the hash of
// the signer's key, in place of what is there with a lower sequence number. The
// caller chooses that number. If a node shows a later record of the key, or
// another with this number, the error matches [SeqTooLow] or [SeqReused], even
// if other nodes stored the new one: readers will prefer what is there. It
// fails also if no node stores it. Stored tells of each node.
func (n *Node) MutablePut(ctx context.Context, signer crypto.Signer, seq uint64, value []byte, o PutOptions) (MutableRecord, Stored, error) {
	if err := o.check(value, MaxMutableValue); err != nil {
		return MutableRecord{}, Stored{}, err
	}
	r, err := SignMutable(signer, seq, value)
	if err != nil {
		return MutableRecord{}, Stored{}, err
	}
	s, err := n.putRecord(ctx, r, o)
	return r, s, err
}

// PutRecord stores a record that is signed already: it keeps somebody's record
// alive without his key.
func (n *Node) PutRecord(ctx context.Context, r MutableRecord, o PutOptions) (Stored, error) {
	if err := o.check(r.Value, MaxMutableValue); err != nil {
		return Stored{}, err
	}
	if err := r.Verify(); err != nil {
		return Stored{}, err
	}
	return n.putRecord(ctx, r, o)
}

func (n *Node) putRecord(ctx context.Context, r MutableRecord, o PutOptions) (Stored, error) {
	target := r.Target()
	search := mutableSearch{key: r.PublicKey, seq: r.Seq}
	closest, err := n.walk(ctx, mutableGet(&target, 0), o.Query, search.take)
	if err != nil {
		return Stored{Target: target}, tried("mutable put of", target, err)
	}
	s, err := n.commitAll(ctx, target, closest, always(putMessage(&target, r)))
	switch {
	case !search.found:
	case search.best.Seq > r.Seq:
		err = SeqTooLow
	case !bytes.Equal(search.best.Value, r.Value):
		err = SeqReused
	}
	return s, tried("mutable put of", target, err)
}

// mutableGet asks for a key's record with at least that sequence number.
func mutableGet(target *Target, seq uint64) dhtrpc.Message {
	return dhtrpc.Message{Command: cmdMutableGet, Target: (*dhtrpc.ID)(target), Value: appendMutableGet(nil, seq)}
}

func putMessage(target *Target, r MutableRecord) dhtrpc.Message {
	return dhtrpc.Message{
		Command: cmdMutablePut, Target: (*dhtrpc.ID)(target),
		Value: mutablePut{r.PublicKey, r.wire()}.append(nil),
	}
}

// GetOptions change how a mutable record is got. The zero value gets the latest
// one.
type GetOptions struct {
	// Seq is the lowest sequence number that will do.
	Seq uint64
	// First takes the first record that comes instead of the latest one that
	// any of the closest nodes has. (In the reference: latest = false.)
	First bool
	// Refresh, if not nil, is asked about the latest record, and if it returns
	// true the record is put again, unchanged, at the closest nodes. It has no
	// effect with First.
	Refresh func(MutableRecord) bool
	// Query changes how the query beneath walks.
	Query QueryOption
}

// A MutableResult is a mutable record and whence it came.
type MutableResult struct {
	MutableRecord
	From netip.AddrPort // the node that had it
	To   netip.AddrPort // our address as that node sees it
	// Replicas is how many of the nodes asked had this very record.
	Replicas int
	// Refreshed says where it was stored again.
	Refreshed Stored
}

// MutableGet returns a key's record. Records that its key did not sign do not
// count. The error matches [ErrNotFound] if there is none. If the record was
// found but could not be refreshed, it is returned together with the error.
func (n *Node) MutableGet(ctx context.Context, key PublicKey, o GetOptions) (MutableResult, error) {
	target := TargetOf(key)
	if o.Seq > MaxSeq {
		return MutableResult{}, ErrSeqRange
	}
	search := mutableSearch{key: key, seq: o.Seq}
	query := queryOptions(o.Query)
	query.EndsEarly = query.EndsEarly || o.First
	q := n.rpc.Query(mutableGet(&target, o.Seq), query)
	for r, err := range q.Replies(ctx) {
		if err != nil {
			return MutableResult{}, tried("mutable get of", target, err)
		}
		if search.take(&r); search.found && o.First {
			return search.best, nil
		}
	}
	if !search.found {
		return MutableResult{}, tried("mutable get of", target, ErrNotFound)
	}
	best := search.best
	if o.Refresh != nil && o.Refresh(best.MutableRecord) {
		var err error
		best.Refreshed, err = n.commitAll(ctx, target, q.ClosestReplies(), always(putMessage(&target, best.MutableRecord)))
		return best, tried("refresh of", target, err)
	}
	return best, nil
}

// A mutableSearch picks the latest valid record out of replies.
type mutableSearch struct {
	key   PublicKey
	seq   uint64 // the lowest that will do
	found bool
	best  MutableResult
}

func (s *mutableSearch) take(r *dhtrpc.Reply) {
	if r.Value == nil {
		return
	}
	m, err := parseMutableRecord(r.Value)
	if err != nil || m.seq < s.seq {
		return
	}
	best := &s.best
	if s.found && m.seq == best.Seq && m.signature == best.Signature && bytes.Equal(m.value, best.Value) {
		best.Replicas++
		return
	}
	if s.found && m.seq <= best.Seq || !m.verify((*[32]byte)(&s.key)) {
		return
	}
	s.found = true
	s.best = MutableResult{
		MutableRecord: MutableRecord{PublicKey: s.key, Seq: m.seq, Value: m.value, Signature: m.signature},
		From:          r.From, To: r.To, Replicas: 1,
	}
}

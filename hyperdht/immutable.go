package hyperdht

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/warren-dht/warren/dhtrpc"
)

// PutOptions change how a record is put. The zero value is good.
type PutOptions struct {
	// MaxValue is the longest value to put, in bytes; 0 is
	// [MaxImmutableValue] or [MaxMutableValue]. Larger ones may not reach
	// every reader: nodes of the reference store up to 1,970 bytes, of which a
	// reader can receive 1,850.
	MaxValue int
	// Query changes how the query beneath walks.
	Query QueryOption
}

func (o PutOptions) check(value []byte, most int) error {
	if o.MaxValue > 0 {
		most = o.MaxValue
	}
	if len(value) > most {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrValueTooLarge, len(value), most)
	}
	return nil
}

// ImmutablePut stores a value at the nodes closest to its hash, which becomes
// Stored.Target. They keep it for two days after it was last put or asked for.
// It fails if no node accepts it.
func (n *Node) ImmutablePut(ctx context.Context, value []byte, o PutOptions) (Stored, error) {
	if err := o.check(value, MaxImmutableValue); err != nil {
		return Stored{}, err
	}
	if value == nil {
		value = []byte{}
	}
	target := hash(value)
	ask := dhtrpc.Message{Command: cmdImmutableGet, Target: (*dhtrpc.ID)(&target)}
	put := dhtrpc.Message{Command: cmdImmutablePut, Target: (*dhtrpc.ID)(&target), Value: value}
	closest, err := n.walk(ctx, ask, o.Query, nil)
	if err != nil {
		return Stored{Target: target}, tried("immutable put of", target, err)
	}
	s, err := n.commitAll(ctx, target, closest, always(put))
	return s, tried("immutable put of", target, err)
}

// An ImmutableResult is an immutable record and whence it came.
type ImmutableResult struct {
	Value []byte
	From  netip.AddrPort // the node that had it
	To    netip.AddrPort // our address as that node sees it
}

// ImmutableGet returns the value with a hash, from the first node that has it.
// The error matches [ErrNotFound] if none of the closest has.
func (n *Node) ImmutableGet(ctx context.Context, target Target, opts ...QueryOption) (ImmutableResult, error) {
	o := queryOptions(append([]QueryOption{endsEarly}, opts...)...)
	q := n.rpc.Query(dhtrpc.Message{Command: cmdImmutableGet, Target: (*dhtrpc.ID)(&target)}, o)
	for r, err := range q.Replies(ctx) {
		if err != nil {
			return ImmutableResult{}, tried("immutable get of", target, err)
		}
		if r.Value != nil && hash(r.Value) == target {
			return ImmutableResult{r.Value, r.From, r.To}, nil
		}
	}
	return ImmutableResult{}, tried("immutable get of", target, ErrNotFound)
}

package mainline

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/internal/keep"
	"github.com/warren-dht/warren/kad"
)

// items are what others put here (BEP 44), by target. Bounded in number and so
// in bytes (an item has at most MaxValue and MaxSalt), in age, per source and per
// network. The time is store time. Guarded by the node's mutex.
type items struct {
	kept *keep.Map[key, *Item, netip.Addr]
}

// newItems makes an empty store. The function, if there is one, is called with
// the target of every item that is removed.
func newItems(limits keep.Limits, removed func(target key)) *items {
	var forget func(key, *Item, keep.Reason)
	if removed != nil {
		forget = func(target key, _ *Item, _ keep.Reason) { removed(target) }
	}
	return &items{keep.NewMap[key, *Item, netip.Addr](limits, forget).GroupBy(kad.Subnet)}
}

// get returns the item under a target, nil if there is none. It is the store's
// own and is not to be changed.
func (s *items) get(now time.Time, target key) *Item {
	i, _, _ := s.kept.Get(now, target)
	return i
}

// put stores an item whose value, key, salt and signature were found good. It
// returns the code of the refusal, or 0. The order is BEP 44's: cas first, then
// seq. The same seq with the same value is a success and renews the item; with
// another value it is refused (docs/spec/mainline.md §15.3). The store keeps
// the item.
func (s *items) put(now time.Time, target key, item *Item, cas *int64, from netip.Addr) Code {
	held := s.get(now, target)
	if held != nil && item.Mutable() {
		switch {
		case cas != nil && *cas != held.Seq:
			return CodeCASMismatch
		case item.Seq < held.Seq, item.Seq == held.Seq && !bytes.Equal(item.Value, held.Value):
			return CodeSeqTooLow
		}
	}
	s.kept.Put(now, target, item, source(from))
	return 0
}

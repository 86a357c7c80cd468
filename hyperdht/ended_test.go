package hyperdht

import (
	"errors"
	"testing"

	"github.com/warren-dht/warren/dhtrpc"
)

// Whatever is asked of a node that is suspended or closed fails with this
// package's error, the one that Dial and Listen return.
func TestRecordsOfAnEndedNode(t *testing.T) {
	inNet(t, 5, func(tn *recordsNet) {
		n := tn.add(nil, nil, dhtrpc.Always)
		ctx, me := tn.Context(), SignerOf(KeyPairFromSeed([32]byte{1}))
		record, err := SignMutable(me, 1, nil)
		tn.must("sign", err)
		calls := map[string]func() error{
			"ImmutablePut": func() error { _, err := n.ImmutablePut(ctx, nil, PutOptions{}); return err },
			"ImmutableGet": func() error { _, err := n.ImmutableGet(ctx, topic); return err },
			"MutablePut":   func() error { _, _, err := n.MutablePut(ctx, me, 1, nil, PutOptions{}); return err },
			"PutRecord":    func() error { _, err := n.PutRecord(ctx, record, PutOptions{}); return err },
			"MutableGet":   func() error { _, err := n.MutableGet(ctx, record.PublicKey, GetOptions{}); return err },
			"Announce":     func() error { _, err := n.Announce(ctx, topic, me, AnnounceOptions{}); return err },
			"Unannounce":   func() error { return n.Unannounce(ctx, topic, me, AnnounceOptions{}) },
			"Lookup": func() error {
				for _, err := range n.Lookup(ctx, topic) {
					return err
				}
				return nil
			},
			"FindPeer": func() error {
				for _, err := range n.FindPeer(ctx, record.PublicKey) {
					return err
				}
				return nil
			},
		}
		for _, step := range []struct {
			end  func() error
			want error
		}{{n.rpc.Suspend, ErrSuspended}, {n.rpc.Close, ErrClosed}} {
			tn.must("end", step.end())
			for name, call := range calls {
				if err := call(); !errors.Is(err, step.want) {
					tn.Errorf("%s: %v, want %v", name, err, step.want)
				}
			}
		}
	})
}

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/noise"
)

func (a *app) putCommand() *cobra.Command {
	var flags nodeFlags
	var keys keyFlags
	var mutable bool
	var seq int64
	cmd := &cobra.Command{
		Use:   "put VALUE|-",
		Short: "Store a record: a text, or what comes on stdin",
		Long: `Store a record of up to 1000 bytes under its hash, or with --mutable one of up to 920
under a key pair, so that it can be replaced. Nodes keep it for two days after it
was last put or asked for.`,
		Example: `  warren put 'hello world'
  warren put --mutable --key me.key - < status.txt`,
		GroupID: groupData,
		Args:    exactly("VALUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range []string{"seed", "key", "seq"} {
				if !mutable && cmd.Flags().Changed(name) {
					return usage("--%s is for mutable records: --mutable is missing", name)
				}
			}
			at, err := optionalSeq(cmd, "seq", seq)
			if err != nil {
				return err
			}
			if at != nil && uint64(*at) > hyperdht.MaxSeq {
				return usage("--seq: %d is above 2^53-1", *at)
			}
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			limit := hyperdht.MaxImmutableValue
			if mutable {
				limit = hyperdht.MaxMutableValue
			}
			value, err := a.readValue(cmd.Context(), args[0], limit)
			if err != nil {
				return err
			}
			if !mutable {
				return a.putImmutable(cmd.Context(), cfg, value)
			}
			pair, err := keys.pair(a)
			if err != nil {
				return err
			}
			return a.putMutable(cmd.Context(), cfg, pair, at, value)
		},
	}
	flags.add(cmd)
	keys.add(cmd)
	cmd.Flags().BoolVar(&mutable, "mutable", false, "store under the key pair")
	cmd.Flags().Int64Var(&seq, "seq", 0, "the version (one more than the highest found)")
	return cmd
}

func (a *app) putImmutable(ctx context.Context, cfg nodeConfig, value []byte) error {
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		return err
	}
	defer stop()
	stored, err := node.ImmutablePut(ctx, value, hyperdht.PutOptions{})
	if err != nil {
		return fmt.Errorf("put: %w", stopCause(ctx, err))
	}
	hash := hex.EncodeToString(stored.Target[:])
	a.result(struct {
		Hash string `json:"hash"`
		Acks int    `json:"acks"`
	}{hash, len(stored.Nodes)}, "%s  (%d nodes)", hash, len(stored.Nodes))
	return nil
}

func (a *app) putMutable(ctx context.Context, cfg nodeConfig, pair noise.KeyPair, at *int64, value []byte) error {
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		return err
	}
	defer stop()
	seq, err := nextSeq(ctx, node, pair.Public, at)
	if err != nil {
		return fmt.Errorf("put: %w", stopCause(ctx, err))
	}
	record, stored, err := node.MutablePut(ctx, hyperdht.SignerOf(pair), seq, value, hyperdht.PutOptions{})
	if err != nil {
		return fmt.Errorf("put %s with seq %d: %w", a.keyText(pair.Public), seq, stopCause(ctx, err))
	}
	a.result(struct {
		PublicKey string `json:"publicKey"`
		Seq       uint64 `json:"seq"`
		Signature string `json:"signature"`
		Acks      int    `json:"acks"`
	}{a.keyText(record.PublicKey), record.Seq, hex.EncodeToString(record.Signature[:]), len(stored.Nodes)},
		"%s  seq %d  (%d nodes)", a.keyText(record.PublicKey), record.Seq, len(stored.Nodes))
	return nil
}

// nextSeq is the version to put: the one given, else one more than the highest
// found.
func nextSeq(ctx context.Context, node *hyperdht.Node, key noise.PublicKey, at *int64) (uint64, error) {
	if at != nil {
		return uint64(*at), nil
	}
	found, err := node.MutableGet(ctx, key, hyperdht.GetOptions{})
	switch {
	case err == nil:
		return found.Seq + 1, nil
	case errors.Is(err, hyperdht.ErrNotFound):
		return 1, nil
	}
	return 0, err
}

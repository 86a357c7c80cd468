package main

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/mainline"
	"github.com/warren-dht/warren/noise"
)

// A mainlineRecord is what put stores.
type mainlineRecord struct {
	value   []byte
	mutable bool
	pair    noise.KeyPair
	salt    string
	seq     *int64 // nil: one more than the highest found
	cas     *int64
}

func (a *app) mainlinePutCommand() *cobra.Command {
	flags := mainlineFlags{readOnly: true}
	var keys keyFlags
	var r mainlineRecord
	var seq, cas int64
	cmd := &cobra.Command{
		Use:   "put VALUE|-",
		Short: "Store an item: a text, or what comes on stdin",
		Example: `  warren mainline put 'hello world'
  warren mainline put --mutable --key me.key --salt status - < status.txt`,
		Args: exactly("VALUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range []string{"seed", "key", "salt", "seq", "cas"} {
				if !r.mutable && cmd.Flags().Changed(name) {
					return usage("--%s is for mutable items: --mutable is missing", name)
				}
			}
			if len(r.salt) > mainline.MaxSalt {
				return usage("--salt: longer than %d bytes", mainline.MaxSalt)
			}
			var err error
			if r.seq, err = optionalSeq(cmd, "seq", seq); err != nil {
				return err
			}
			if r.cas, err = optionalSeq(cmd, "cas", cas); err != nil {
				return err
			}
			cfg, err := flags.config()
			if err != nil {
				return err
			}
			if r.value, err = a.readValue(cmd.Context(), args[0], mainline.MaxValue); err != nil {
				return err
			}
			if len(mainline.StringValue(r.value)) > mainline.MaxValue {
				return usage("VALUE: more than %d bytes with its length in front", mainline.MaxValue)
			}
			if r.mutable {
				if r.pair, err = keys.pair(a); err != nil {
					return err
				}
			}
			return a.mainlinePut(cmd.Context(), cfg, r)
		},
	}
	flags.add(cmd, "port")
	keys.add(cmd)
	cmd.Flags().BoolVar(&r.mutable, "mutable", false, "store under the key pair, so that it can be replaced")
	cmd.Flags().StringVar(&r.salt, "salt", "", "tells several items of one key pair apart")
	cmd.Flags().Int64Var(&seq, "seq", 0, "the version (one more than the highest found)")
	cmd.Flags().Int64Var(&cas, "cas", 0, "store only where this version is held")
	return cmd
}

// optionalSeq is the number of a flag, nil if it is not given.
func optionalSeq(cmd *cobra.Command, name string, n int64) (*int64, error) {
	if !cmd.Flags().Changed(name) {
		return nil, nil
	}
	if n < 0 {
		return nil, usage("--%s: %d is negative", name, n)
	}
	return &n, nil
}

func (a *app) mainlinePut(ctx context.Context, cfg mainline.Config, r mainlineRecord) error {
	node, err := a.mainlineNode(ctx, cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	item := mainline.Item{Value: mainline.StringValue(r.value)}
	if r.mutable {
		seq, err := nextMainlineSeq(ctx, node, r)
		if err != nil {
			return fmt.Errorf("put: %w", stopCause(ctx, err))
		}
		item = mainline.Sign(ed25519.PrivateKey(r.pair.Secret[:]), []byte(r.salt), seq, item.Value)
	}
	stored, err := node.Put(ctx, item, mainline.PutOptions{CAS: r.cas})
	if err != nil {
		return fmt.Errorf("put %v: %w", stored.Target, stopCause(ctx, err))
	}
	a.result(struct {
		Target string `json:"target"`
		mainlineItemJSON
		Acks int `json:"acks"`
	}{stored.Target.String(), a.mainlineItem(&item), stored.N()}, "%v  (%d nodes)", stored.Target, stored.N())
	return nil
}

// nextMainlineSeq is the version to put: the one given, else one more than the
// highest found.
func nextMainlineSeq(ctx context.Context, node *mainline.Node, r mainlineRecord) (int64, error) {
	if r.seq != nil {
		return *r.seq, nil
	}
	found, err := node.GetMutable(ctx, r.pair.Public[:], []byte(r.salt))
	switch {
	case err == nil:
		return found.Seq + 1, nil
	case errors.Is(err, mainline.ErrNotFound):
		return 1, nil
	}
	return 0, err
}

// mainlineItemJSON is what makes an item mutable; nothing of an immutable one.
type mainlineItemJSON struct {
	PublicKey string `json:"publicKey,omitempty"`
	Seq       *int64 `json:"seq,omitempty"`
	Signature string `json:"signature,omitempty"`
}

func (a *app) mainlineItem(i *mainline.Item) (j mainlineItemJSON) {
	if i.Mutable() {
		j = mainlineItemJSON{a.keyText(noise.PublicKey(i.Key)), &i.Seq, hex.EncodeToString(i.Signature)}
	}
	return j
}

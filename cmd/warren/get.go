package main

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/noise"
)

func (a *app) getCommand() *cobra.Command {
	var flags nodeFlags
	var mutable bool
	var opts hyperdht.GetOptions
	var latest bool
	cmd := &cobra.Command{
		Use:   "get HASH",
		Short: "Read a record",
		Long: `Read the record with a hash, or with --mutable the latest one under a public key.
The value is written as it is, byte for byte. A terminal gets a line break behind it,
and control characters other than newline and tab as \x1b: strangers write records.`,
		Example: `  warren get 256c83b297114d201b30179f3f0ef0cace9783622da5974326b436178aeef610
  warren get --mutable 6d1... --json`,
		GroupID: groupData,
		Args:    exactly("HASH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range []string{"seq", "latest"} {
				if !mutable && cmd.Flags().Changed(name) {
					return usage("--%s is for mutable records: --mutable is missing", name)
				}
			}
			if opts.Seq > hyperdht.MaxSeq {
				return usage("--seq: %d is above 2^53-1", opts.Seq)
			}
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			if !mutable {
				hash, err := parseHex32("HASH", args[0])
				if err != nil {
					return err
				}
				return a.getImmutable(cmd.Context(), cfg, hash)
			}
			key, err := parseKey("KEY", args[0])
			if err != nil {
				return err
			}
			opts.First = !latest
			return a.getMutable(cmd.Context(), cfg, key, opts)
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&mutable, "mutable", false, "HASH is a public key")
	cmd.Flags().Uint64Var(&opts.Seq, "seq", 0, "the lowest version that will do")
	cmd.Flags().BoolVar(&latest, "latest", true, "the latest that any of the closest nodes has, not the first that comes")
	return cmd
}

func (a *app) getImmutable(ctx context.Context, cfg nodeConfig, hash hyperdht.Target) error {
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		return err
	}
	defer stop()
	found, err := node.ImmutableGet(ctx, hash)
	if err != nil {
		return fmt.Errorf("get %x: %w", hash, stopCause(ctx, err))
	}
	a.content(struct {
		valueJSON
		From addrJSON `json:"from"`
	}{value(present(found.Value)), addr(found.From)}, found.Value)
	return nil
}

func (a *app) getMutable(ctx context.Context, cfg nodeConfig, key noise.PublicKey, opts hyperdht.GetOptions) error {
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		return err
	}
	defer stop()
	found, err := node.MutableGet(ctx, key, opts)
	if err != nil {
		return fmt.Errorf("get %s: %w", a.keyText(key), stopCause(ctx, err))
	}
	a.content(struct {
		valueJSON
		Seq       uint64   `json:"seq"`
		Signature string   `json:"signature"`
		From      addrJSON `json:"from"`
	}{value(present(found.Value)), found.Seq, hex.EncodeToString(found.Signature[:]), addr(found.From)}, found.Value)
	return nil
}

// content prints what a record holds: the object under --json, else the bytes and
// nothing else, so that they can be stored or put again. A terminal gets a line.
func (a *app) content(v any, b []byte) {
	switch {
	case a.json:
		a.result(v, "")
	case isTerminal(a.stdout):
		a.result(v, "%s", b)
	default:
		a.write(a.stdout, string(b))
	}
}

// present is a value that is not nil, even if it is empty.
func present(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/mainline"
)

func (a *app) mainlineGetCommand() *cobra.Command {
	flags := mainlineFlags{readOnly: true}
	var salt string
	var mutable bool
	cmd := &cobra.Command{
		Use:   "get TARGET",
		Short: "Read an item",
		Long: `Read the item under a target, of 40 hex digits as put printed it. With --mutable the
argument is a public key instead, and the target follows from it and --salt. A
byte string is written as it is, byte for byte, anything else as it is bencoded. A
terminal gets a line break behind it, and control characters other than newline and
tab as \x1b: strangers write items.`,
		Example: `  warren mainline get 0303030303030303030303030303030303030303`,
		Args:    exactly("TARGET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(salt) > mainline.MaxSalt {
				return usage("--salt: longer than %d bytes", mainline.MaxSalt)
			}
			target, err := mainlineTarget(args[0], mutable, salt)
			if err != nil {
				return err
			}
			cfg, err := flags.config()
			if err != nil {
				return err
			}
			return a.mainlineGet(cmd.Context(), cfg, target, salt)
		},
	}
	flags.add(cmd, "port")
	cmd.Flags().StringVar(&salt, "salt", "", "the mutable item's salt")
	cmd.Flags().BoolVar(&mutable, "mutable", false, "TARGET is a public key")
	return cmd
}

func mainlineTarget(s string, mutable bool, salt string) (mainline.ID, error) {
	if !mutable {
		return parseMainlineID("TARGET", s)
	}
	key, err := parseKey("KEY", s)
	return mainline.MutableTarget(key[:], []byte(salt)), err
}

func (a *app) mainlineGet(ctx context.Context, cfg mainline.Config, target mainline.ID, salt string) error {
	node, err := a.mainlineNode(ctx, cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	found, err := node.Get(ctx, target, mainline.GetOptions{Salt: []byte(salt)})
	if err != nil {
		return fmt.Errorf("get %v: %w", target, stopCause(ctx, err))
	}
	content, ok := found.Bytes()
	if !ok {
		content = found.Value
	}
	a.content(struct {
		valueJSON
		mainlineItemJSON
		From *addrJSON `json:"from,omitempty"`
	}{value(present(content)), a.mainlineItem(&found.Item), optionalAddr(found.From.Addr)}, content)
	return nil
}

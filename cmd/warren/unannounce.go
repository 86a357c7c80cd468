package main

import (
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
)

func (a *app) unannounceCommand() *cobra.Command {
	var flags nodeFlags
	var keys keyFlags
	cmd := &cobra.Command{
		Use:     "unannounce TOPIC",
		Short:   "Take an announcement back",
		Example: `  warren unannounce 'name:our chess club' --key server.key`,
		GroupID: groupData,
		Args:    exactly("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, err := parseTopic("TOPIC", args[0])
			if err != nil {
				return err
			}
			if keys.seed == "" && keys.file == "" {
				return usage("unannounce: --seed or --key is missing: whose announcement?")
			}
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			pair, err := keys.pair(a)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			node, stop, err := a.open(ctx, cfg)
			if err != nil {
				return err
			}
			defer stop()
			if err := node.Unannounce(ctx, topic, hyperdht.SignerOf(pair), hyperdht.AnnounceOptions{}); err != nil {
				return fmt.Errorf("unannounce %x: %w", topic, stopCause(ctx, err))
			}
			a.result(struct {
				Event     string `json:"event"`
				PublicKey string `json:"publicKey"`
				Topic     string `json:"topic"`
			}{"unannounced", a.keyText(pair.Public), hex.EncodeToString(topic[:])}, "unannounced %s", a.keyText(pair.Public))
			return nil
		},
	}
	flags.add(cmd)
	keys.add(cmd)
	return cmd
}

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/noise"
)

func (a *app) lookupCommand() *cobra.Command {
	var flags nodeFlags
	cmd := &cobra.Command{
		Use:     "lookup TOPIC",
		Short:   "Find who announced a topic",
		Example: `  warren lookup 'name:our chess club'`,
		GroupID: groupData,
		Args:    exactly("TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, err := parseTopic("TOPIC", args[0])
			if err != nil {
				return err
			}
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			return a.lookup(cmd.Context(), cfg, topic)
		},
	}
	flags.add(cmd)
	return cmd
}

func (a *app) lookup(ctx context.Context, cfg nodeConfig, topic hyperdht.Target) error {
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		return err
	}
	defer stop()
	seen := map[noise.PublicKey]bool{}
	for peer, err := range node.Lookup(ctx, topic) {
		if err != nil {
			return fmt.Errorf("lookup %x: %w", topic, stopCause(ctx, err))
		}
		if seen[peer.PublicKey] {
			continue
		}
		seen[peer.PublicKey] = true
		relays := []addrJSON{}
		for _, r := range peer.Relays {
			relays = append(relays, addr(r))
		}
		a.result(struct {
			PublicKey      string     `json:"publicKey"`
			RelayAddresses []addrJSON `json:"relayAddresses"`
			From           addrJSON   `json:"from"`
		}{a.keyText(peer.PublicKey), relays, addr(peer.From)}, "%s  %v", a.keyText(peer.PublicKey), peer.Relays)
	}
	if len(seen) == 0 {
		return fmt.Errorf("lookup %x: nobody has announced it", topic)
	}
	return nil
}

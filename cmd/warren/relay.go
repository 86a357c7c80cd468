package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/noise"
	blind "github.com/warren-dht/warren/relay"
)

func (a *app) relayCommand() *cobra.Command {
	var flags nodeFlags
	var keys keyFlags
	var allow allowFlags
	var quotas blind.Config
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Run a blind relay until stopped",
		Long: `Run a blind relay until stopped: peers that cannot reach each other name its key with
--relay-through, and it carries their packets, which it cannot read.`,
		Example: `  warren relay --key relay.key`,
		GroupID: groupNodes,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			may, err := allow.policy()
			if err != nil {
				return err
			}
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			if quotas.MaxPairs < 0 {
				return usage("--max-pairs: %d is negative", quotas.MaxPairs)
			}
			pair, err := keys.pair()
			if err != nil {
				return err
			}
			return a.relay(cmd.Context(), cfg, pair, may, quotas)
		},
	}
	flags.add(cmd)
	keys.add(cmd)
	allow.add(cmd)
	cmd.Flags().IntVar(&quotas.MaxPairs, "max-pairs", 0, fmt.Sprintf("how many connections are relayed at a time (%d)", blind.DefaultMaxPairs))
	return cmd
}

func (a *app) relay(ctx context.Context, cfg nodeConfig, pair noise.KeyPair, may *policy, quotas blind.Config) error {
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		return stoppedWell(ctx, err)
	}
	defer stop()
	l, err := node.Listen(ctx, hyperdht.ListenConfig{KeyPair: &pair, Allow: may.allow()})
	if err != nil {
		return stoppedWell(ctx, fmt.Errorf("relay %s: %w", a.keyText(pair.Public), stopCause(ctx, err)))
	}
	server := node.ServeRelay(l, quotas)
	defer server.Close()
	a.register(relayMetrics{server.Stats})
	a.listening(node, pair.Public)
	return untilStopped(ctx)
}

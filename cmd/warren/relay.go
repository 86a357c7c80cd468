package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
	blind "github.com/warren-dht/warren/relay"
)

func (a *app) relayCommand() *cobra.Command {
	var flags nodeFlags
	var keys keyFlags
	var allow allowFlags
	var conns connFlags
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
			may, err := allow.policy(a)
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
			if err := conns.settle(cmd, relayConns, relayPeerConns); err != nil {
				return err
			}
			pair, err := keys.pair(a)
			if err != nil {
				return err
			}
			refused := a.refusals()
			defer refused.end()
			return a.relay(cmd.Context(), cfg, hyperdht.ListenConfig{KeyPair: &pair, Allow: may.allow(refused),
				MaxConns: conns.all, MaxPeerConns: conns.peer}, quotas)
		},
	}
	flags.add(cmd)
	keys.add(cmd)
	allow.add(cmd)
	conns.add(cmd, strconv.Itoa(relayConns), strconv.Itoa(relayPeerConns))
	cmd.Flags().IntVar(&quotas.MaxPairs, "max-pairs", 0, fmt.Sprintf("how many connections are relayed at a time (%d)", blind.DefaultMaxPairs))
	return cmd
}

func (a *app) relay(ctx context.Context, cfg nodeConfig, lc hyperdht.ListenConfig, quotas blind.Config) error {
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		return stoppedWell(ctx, err)
	}
	defer stop()
	l, err := node.Listen(ctx, lc)
	if err != nil {
		return stoppedWell(ctx, fmt.Errorf("relay %s: %w", a.keyText(lc.KeyPair.Public), stopCause(ctx, err)))
	}
	server := node.ServeRelay(l, quotas)
	defer server.Close()
	a.register(relayMetrics{server.Stats})
	a.listening(node, l.PublicKey())
	return untilStopped(ctx)
}

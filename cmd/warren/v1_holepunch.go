package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/dhtrpc1"
)

func (a *app) v1HolepunchCommand() *cobra.Command {
	flags := v1Flags{ephemeral: true}
	cmd := &cobra.Command{
		Use:   "holepunch PEER REFERRER",
		Short: "Reach a node behind a NAT with the help of one that knows it",
		Long: `Reach the node at PEER (HOST:PORT) behind a NAT: REFERRER, which PEER talks to, has it
answer us, which opens the NAT towards us.`,
		Example: `  warren v1 holepunch 203.0.113.7:4000 198.51.100.2:10001 --bootstrap 198.51.100.2:10001`,
		Args:    exactly("PEER", "REFERRER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := flags.config(cmd, a)
			if err != nil {
				return err
			}
			var at [2]netip.AddrPort
			for i, what := range []string{"PEER", "REFERRER"} {
				if at[i], err = resolveAddr(cmd.Context(), what, args[i]); err != nil {
					return err
				}
			}
			return a.v1Holepunch(cmd.Context(), cfg, at[0], at[1])
		},
	}
	flags.add(cmd)
	return cmd
}

func (a *app) v1Holepunch(ctx context.Context, cfg dhtrpc1.Config, peer, referrer netip.AddrPort) error {
	node, err := dhtrpc1.Listen(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	start := time.Now()
	p, err := node.Holepunch(ctx, peer, referrer)
	if err != nil {
		return fmt.Errorf("hole punch to %v through %v: %w", peer, referrer, stopCause(ctx, err))
	}
	a.pong(p.Addr, p.Observed, time.Since(start), v1ID(p))
	return nil
}

package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) mainlinePingCommand() *cobra.Command {
	flags := mainlineFlags{readOnly: true}
	var count int
	cmd := &cobra.Command{
		Use:     "ping HOST:PORT",
		Short:   "Ask a node for a sign of life",
		Example: `  warren mainline ping 127.0.0.1:6881`,
		Args:    exactly("HOST:PORT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 1 {
				return usage("--count: %d is not positive", count)
			}
			cfg, err := flags.config()
			if err != nil {
				return err
			}
			to, err := mainlineAddr(cmd.Context(), "HOST:PORT", args[0])
			if err != nil {
				return err
			}
			cfg.NoBootstrap = true // a ping needs no other node
			node, err := a.mainlineNode(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			defer node.Close()
			return a.repeat(cmd.Context(), count, to, func(ctx context.Context) error {
				start := time.Now()
				c, err := node.Ping(ctx, to)
				if err == nil {
					rtt := time.Since(start)
					a.result(struct {
						From  addrJSON `json:"from"`
						ID    string   `json:"id"`
						RTTMs millis   `json:"rttMs"`
					}{addr(c.Addr), c.ID.String(), ms(rtt)}, "pong from %v in %v, id %v", c.Addr, rtt.Round(10*time.Microsecond), c.ID)
				}
				return err
			})
		},
	}
	flags.add(cmd, "port")
	cmd.Flags().IntVarP(&count, "count", "n", 1, "how many pings, a second apart")
	return cmd
}

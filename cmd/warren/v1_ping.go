package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/dhtrpc1"
)

func (a *app) v1PingCommand() *cobra.Command {
	var host string
	var count int
	cmd := &cobra.Command{
		Use:     "ping HOST:PORT",
		Short:   "Ask a node for its id and for our address",
		Example: `  warren v1 ping 127.0.0.1:10001`,
		Args:    exactly("HOST:PORT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 1 {
				return usage("--count: %d is not positive", count)
			}
			flags := networkFlags{host: host}
			bind, err := flags.bind()
			if err != nil {
				return err
			}
			to, err := resolveAddr(cmd.Context(), "HOST:PORT", args[0])
			if err != nil {
				return err
			}
			node, err := dhtrpc1.Listen(dhtrpc1.Config{Host: bind, Ephemeral: true, Logger: a.log})
			if err != nil {
				return err
			}
			defer node.Close()
			return a.repeat(cmd.Context(), count, to, func(ctx context.Context) error {
				start := time.Now()
				p, err := node.Ping(ctx, to)
				if err == nil {
					a.pong(p.Addr, p.Observed, time.Since(start), v1ID(p))
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&host, "host", "", "the IPv4 address to bind (0.0.0.0)")
	cmd.Flags().IntVarP(&count, "count", "n", 1, "how many pings, a second apart")
	return cmd
}

// v1ID is the id in a pong, nil of an ephemeral node.
func v1ID(p dhtrpc1.Pong) *string {
	if !p.HasID {
		return nil
	}
	s := fmt.Sprintf("%x", p.ID)
	return &s
}

package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/dhtrpc"
)

func (a *app) pingCommand() *cobra.Command {
	var flags networkFlags
	var count int
	cmd := &cobra.Command{
		Use:     "ping HOST:PORT",
		Short:   "Ask a node for a sign of life",
		Example: `  warren ping 10.0.0.1:49737 --count 5`,
		GroupID: groupNodes,
		Args:    exactly("HOST:PORT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 1 {
				return usage("--count: %d is not positive", count)
			}
			host, err := flags.bind()
			if err != nil {
				return err
			}
			to, err := resolveAddr(cmd.Context(), "HOST:PORT", args[0])
			if err != nil {
				return err
			}
			// A ping needs no other node: the one that asks stays alone.
			node, err := dhtrpc.Listen(dhtrpc.Config{Host: host, Port: flags.port, ExactPort: flags.port != 0,
				Ephemeral: dhtrpc.Always, Logger: a.log})
			if err != nil {
				return err
			}
			defer node.Close()
			return a.repeat(cmd.Context(), count, to, func(ctx context.Context) error {
				r, err := node.Ping(ctx, to)
				if err == nil {
					a.pong(to, r.To, r.RTT, nil)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&flags.host, "host", "", "the IPv4 address to bind (0.0.0.0)")
	cmd.Flags().Uint16Var(&flags.port, "port", 0, "the port to bind")
	cmd.Flags().IntVarP(&count, "count", "n", 1, "how many pings, a second apart")
	return cmd
}

// pong prints the answer to a ping.
func (a *app) pong(from, to netip.AddrPort, rtt time.Duration, id *string) {
	text := fmt.Sprintf("pong from %v in %v, you are %v", from, rtt.Round(10*time.Microsecond), to)
	if id != nil {
		text += ", id " + *id
	}
	a.result(struct {
		From  addrJSON `json:"from"`
		To    addrJSON `json:"to"`
		RTTMs millis   `json:"rttMs"`
		ID    *string  `json:"id,omitempty"`
	}{addr(from), addr(to), ms(rtt), id}, "%s", text)
}

// repeat pings count times, a second apart. It fails if none was answered.
func (a *app) repeat(ctx context.Context, count int, to netip.AddrPort, ping func(context.Context) error) error {
	answered := 0
	var last error
	for i := range count {
		if i > 0 {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return fmt.Errorf("ping %v: %w", to, context.Cause(ctx))
			}
		}
		if err := ping(ctx); err == nil {
			answered++
		} else if last = err; ctx.Err() != nil {
			return fmt.Errorf("ping %v: %w", to, context.Cause(ctx))
		} else if count > 1 {
			a.progress("no answer from %v", to)
		}
	}
	if answered == 0 {
		return fmt.Errorf("ping %v: %w", to, last)
	}
	return nil
}

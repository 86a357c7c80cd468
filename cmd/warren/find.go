package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/dhtrpc"
)

var errNoAnswer = errors.New("no node answered")

func (a *app) findCommand() *cobra.Command {
	var flags nodeFlags
	cmd := &cobra.Command{
		Use:     "find TARGET",
		Short:   "Find the 20 nodes closest to a target",
		Example: `  warren find 'name:our chess club'`,
		GroupID: groupNodes,
		Args:    exactly("TARGET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := parseTopic("TARGET", args[0])
			if err != nil {
				return err
			}
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			return a.find(cmd.Context(), cfg, target)
		},
	}
	flags.add(cmd)
	return cmd
}

func (a *app) find(ctx context.Context, cfg nodeConfig, target dhtrpc.ID) error {
	node, stop, err := a.open(ctx, cfg)
	if err != nil {
		return err
	}
	defer stop()
	q := node.RPC().FindNode(target, dhtrpc.QueryOptions{})
	if err := q.Run(ctx); err != nil {
		return fmt.Errorf("find %v: %w", target, stopCause(ctx, err))
	}
	replies := q.ClosestReplies()
	if len(replies) == 0 {
		return fmt.Errorf("find %v: %w", target, errNoAnswer)
	}
	for _, r := range replies {
		a.closest(r.From, r.FromID.String(), r.RTT)
	}
	return nil
}

// closest prints a node that a search found.
func (a *app) closest(at netip.AddrPort, id string, rtt time.Duration) {
	a.result(struct {
		Host  string `json:"host"`
		Port  uint16 `json:"port"`
		ID    string `json:"id"`
		RTTMs millis `json:"rttMs"`
	}{at.Addr().String(), at.Port(), id, ms(rtt)}, "%s  %-21v  %v", id, at, rtt.Round(10*time.Microsecond))
}

// stopCause is the error, or why the context has ended if it comes of that: it
// says so, or that something was closed.
func stopCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, net.ErrClosed)) {
		return cause
	}
	return err
}

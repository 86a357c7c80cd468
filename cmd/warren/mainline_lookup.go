package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/mainline"
)

func (a *app) mainlineLookupCommand() *cobra.Command {
	flags := mainlineFlags{readOnly: true}
	cmd := &cobra.Command{
		Use:     "lookup INFOHASH",
		Short:   "Find the peers of a torrent",
		Example: `  warren mainline lookup 0303030303030303030303030303030303030303`,
		Args:    exactly("INFOHASH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			hash, err := parseMainlineID("INFOHASH", args[0])
			if err != nil {
				return err
			}
			cfg, err := flags.config()
			if err != nil {
				return err
			}
			return a.mainlineLookup(cmd.Context(), cfg, hash)
		},
	}
	flags.add(cmd, "port")
	return cmd
}

func (a *app) mainlineLookup(ctx context.Context, cfg mainline.Config, hash mainline.ID) error {
	node, err := a.mainlineNode(ctx, cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	lookup := node.Lookup(hash)
	for peer := range lookup.Peers(ctx) {
		a.result(addr(peer.Addr), "%v", peer.Addr)
	}
	result := lookup.Result()
	switch {
	case lookup.Err() != nil:
		return fmt.Errorf("lookup %v: %w", hash, stopCause(ctx, lookup.Err()))
	case result.Replied == 0:
		return fmt.Errorf("lookup %v: %w", hash, errNoAnswer)
	case result.Peers == 0:
		return fmt.Errorf("lookup %v: none of the %d nodes that answered knows a peer", hash, result.Replied)
	}
	return nil
}

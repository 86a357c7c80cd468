package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/mainline"
)

func (a *app) mainlineAnnounceCommand() *cobra.Command {
	var flags mainlineFlags
	var opts mainline.AnnounceOptions
	var once bool
	cmd := &cobra.Command{
		Use:     "announce INFOHASH",
		Short:   "Announce that this host is a peer of a torrent, until stopped",
		Example: `  warren mainline announce 0303030303030303030303030303030303030303 --port 6881`,
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
			if once && !cmd.Flags().Changed("read-only") {
				cfg.ReadOnly = true // nobody shall remember a node that is gone
			}
			return a.mainlineAnnounce(cmd.Context(), cfg, hash, opts, once)
		},
	}
	flags.add(cmd, "bind-port")
	cmd.Flags().Uint16Var(&opts.Port, "port", 0, "the port that is announced (the one that the node's datagrams come from)")
	cmd.Flags().BoolVar(&opts.Seed, "seeding", false, "announce that the peer has the whole torrent (BEP 33)")
	cmd.Flags().BoolVar(&once, "once", false, "announce once and end")
	return cmd
}

func (a *app) mainlineAnnounce(ctx context.Context, cfg mainline.Config, hash mainline.ID, opts mainline.AnnounceOptions, once bool) error {
	node, err := a.mainlineNode(ctx, cfg)
	if err != nil {
		if once {
			return err
		}
		return stoppedWell(ctx, err)
	}
	defer node.Close()
	report := func(s mainline.Stored, err error) error {
		if err != nil {
			return fmt.Errorf("announce %v: %w", hash, stopCause(ctx, err))
		}
		a.event(struct {
			Event    string `json:"event"`
			InfoHash string `json:"infoHash"`
			Acks     int    `json:"acks"`
		}{"announced", hash.String(), s.N()}, "announced %v at %d nodes", hash, s.N())
		return nil
	}
	if once {
		return report(node.Announce(ctx, hash, opts))
	}
	err = node.KeepAnnounced(ctx, hash, opts, func(s mainline.Stored, err error) {
		if err := report(s, err); err != nil && ctx.Err() == nil {
			a.log.Warn("announce failed, will try again", "error", err)
		}
	})
	if interrupted(ctx) && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

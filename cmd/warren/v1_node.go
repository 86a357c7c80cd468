package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/dhtrpc1"
	"github.com/warren-dht/warren/internal/keep"
	"github.com/warren-dht/warren/kad"
)

func (a *app) v1NodeCommand() *cobra.Command {
	var flags v1Flags
	var values bool
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Run a node until it is stopped",
		Example: `  warren v1 node --bootstrap none --ephemeral --port 10001
  warren v1 node --bootstrap 127.0.0.1:10001 --values`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := flags.config(cmd, a)
			if err != nil {
				return err
			}
			if values {
				cfg.Handler = v1Values()
			}
			return a.v1Node(cmd.Context(), cfg)
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&values, "values", false, `keep what is stored with the command "values", as in the README of dht-rpc`)
	return cmd
}

func (a *app) v1Node(ctx context.Context, cfg dhtrpc1.Config) error {
	node, err := dhtrpc1.Listen(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	a.nodeEvent("listening", node.LocalAddr(), fmt.Sprintf("%x", node.ID()))
	if err := node.Ready(ctx); err == nil {
		a.nodeEvent("ready", node.LocalAddr(), fmt.Sprintf("%x", node.ID()))
	}
	err = untilStopped(ctx)
	node.Close()
	a.plainEvent("close")
	return err
}

// v1Limits bound the key-value store: a value fits into a datagram, so they are
// 15 MB at most.
var v1Limits = keep.Limits{Entries: 10000, Age: 24 * time.Hour, PerSource: 1000, PerNetwork: 4000}

// v1Values is the key-value store of the README of dht-rpc 1.x, bounded: closest
// queries with the command "values" store, plain ones read.
func v1Values() *dhtrpc1.Mux {
	values := keep.NewMap[dhtrpc1.ID, []byte, netip.Addr](v1Limits, nil).GroupBy(kad.Subnet)
	clock := keep.NewClock(v1Limits.Age)
	var mux dhtrpc1.Mux
	mux.HandleClosest("values", func(r *dhtrpc1.Request) {
		if r.Value != nil {
			values.Put(clock.Now(time.Now()), sha256.Sum256(r.Value), r.Value, r.Addr.Addr())
		}
		r.Reply(nil)
	})
	mux.HandleQuery("values", func(r *dhtrpc1.Request) {
		v, _, _ := values.Get(clock.Now(time.Now()), r.Target)
		r.Reply(v)
	})
	return &mux
}

package main

import (
	"context"
	"fmt"
	"iter"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/dhtrpc1"
)

// A v1Search is one of the two kinds of query.
type v1Search func(*dhtrpc1.Node, context.Context, dhtrpc1.Query) iter.Seq2[dhtrpc1.Reply, error]

func (a *app) v1QueryCommand(name string, aliases []string, short string, search v1Search) *cobra.Command {
	flags := v1Flags{ephemeral: true}
	var q dhtrpc1.Query
	var target string
	var value valueFlags
	cmd := &cobra.Command{
		Use:     name + " --command NAME --target HEX",
		Aliases: aliases,
		Short:   short,
		Example: "  warren v1 " + name + " --bootstrap 127.0.0.1:10001 --command values --target 256c83b297114d201b30179f3f0ef0cace9783622da5974326b436178aeef610",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if q.Command == "" {
				return usage("v1 %s: --command is missing", name)
			}
			t, err := parseTopic("--target", target)
			if err != nil {
				return err
			}
			q.Target = t
			if q.Value, err = value.bytes(); err != nil {
				return err
			}
			cfg, err := flags.config(cmd, a)
			if err != nil {
				return err
			}
			return a.v1Query(cmd.Context(), cfg, q, search)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&q.Command, "command", "", "the command's `name`")
	cmd.Flags().StringVar(&target, "target", "", "64 `hex` digits, or name:some words")
	value.add(cmd)
	cmd.Flags().BoolVar(&q.NoHolepunch, "no-holepunch", false, "do not try silent nodes through the node that named them")
	if name == "closest" {
		cmd.Flags().BoolVar(&q.Verbose, "verbose", false, "print the replies of the search before, too")
	}
	return cmd
}

func (a *app) v1Query(ctx context.Context, cfg dhtrpc1.Config, q dhtrpc1.Query, search v1Search) error {
	node, err := dhtrpc1.Listen(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	if err := node.Ready(ctx); err != nil {
		return fmt.Errorf("find the network: %w", stopCause(ctx, err))
	}
	for r, err := range search(node, ctx, q) {
		if err != nil {
			return fmt.Errorf("command %q: %w", q.Command, stopCause(ctx, err))
		}
		a.result(struct {
			From addrJSON `json:"from"`
			ID   string   `json:"id"`
			valueJSON
		}{addr(r.From.Addr), fmt.Sprintf("%x", r.From.ID), value(r.Value)}, "%-21v  %s", r.From.Addr, valueText(r.Value))
	}
	return nil
}

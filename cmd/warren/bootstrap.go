package main

import (
	"context"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
)

func (a *app) bootstrapCommand() *cobra.Command {
	var flags nodeFlags
	var public, bind string
	port := uint16(hyperdht.DefaultPort)
	cmd := &cobra.Command{
		Use:   "bootstrap --host IP",
		Short: "Run a bootstrap node until stopped",
		Long: `Run a node that others begin with, until stopped. --host is its public IPv4 address,
which makes its id.`,
		Example: `  warren bootstrap --host 203.0.113.7
  warren bootstrap --host 127.0.0.1 --port 40000`,
		GroupID: groupNodes,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if public == "" {
				return usage("bootstrap: --host is missing: the public IPv4 address")
			}
			ip, err := parseHost("--host", public)
			if err != nil {
				return err
			}
			if ip.IsUnspecified() || ip.IsMulticast() || port == 0 {
				return usage("bootstrap: %v is no address that others can reach", netip.AddrPortFrom(ip, port))
			}
			flags.host = bind
			if bind == "" && ip.IsLoopback() {
				flags.host = "127.0.0.1"
			}
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			cfg.Public = netip.AddrPortFrom(ip, port)
			return a.bootstrap(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&public, "host", "", "the public `IPv4` address")
	cmd.Flags().Uint16Var(&port, "port", port, "the port, bound and public")
	cmd.Flags().StringVar(&bind, "bind", "", "the `IPv4` address to bind (0.0.0.0, for a loopback host 127.0.0.1)")
	cmd.Flags().StringVar(&flags.bootstrap, "bootstrap", "", "other bootstrap nodes of the network, `HOST:PORT`,...")
	cmd.Flags().StringVar(&flags.store, "store", "", "a `directory` in which to keep what others store here")
	flags.metrics.add(cmd)
	flags.ephemeral = "false"
	return cmd
}

func (a *app) bootstrap(ctx context.Context, cfg nodeConfig) error {
	if cfg.Bootstrap == nil {
		cfg.Bootstrap = hyperdht.NoBootstrap
	}
	node, stop, err := a.start(cfg)
	if err != nil {
		return err
	}
	defer stop()
	if err := node.Ready(ctx); err != nil {
		return stoppedWell(ctx, err)
	}
	a.nodeEvent("ready", cfg.Public, nodeID(node))
	if err := untilStopped(ctx); err != nil {
		return err
	}
	stop()
	a.plainEvent("close")
	return nil
}

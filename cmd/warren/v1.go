package main

import (
	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/dhtrpc1"
)

// v1Flags are what every command of v1 has.
type v1Flags struct {
	networkFlags
	ephemeral bool
}

func (f *v1Flags) add(cmd *cobra.Command) {
	f.networkFlags.add(cmd, envBootstrap)
	cmd.Flags().BoolVar(&f.ephemeral, "ephemeral", f.ephemeral, "do not tell the node's id, so that nobody lists it")
}

// config reads the flags. Names are looked up already.
func (f *v1Flags) config(cmd *cobra.Command, a *app) (cfg dhtrpc1.Config, err error) {
	list, err := f.demand(cmd, envBootstrap)
	if err != nil {
		return cfg, err
	}
	if cfg.Host, err = f.bind(); err != nil {
		return cfg, err
	}
	for _, s := range list {
		to, err := resolveBootstrap(cmd.Context(), "--bootstrap", s)
		if err != nil {
			return cfg, err
		}
		cfg.Bootstrap = append(cfg.Bootstrap, to)
	}
	cfg.Port, cfg.Ephemeral, cfg.Logger = f.port, f.ephemeral, a.log
	return cfg, nil
}

func (a *app) v1Command() *cobra.Command {
	return group("v1", "Speak to a network of dht-rpc 1.x, 2.x or 3.0.x",
		`Speak to a network of the first dht-rpc (versions 1.x, 2.x and 3.0.x). There is no
public one: --bootstrap or WARREN_BOOTSTRAP names nodes of yours.`,
		`  warren v1 node --bootstrap none --ephemeral --port 10001
  warren v1 ping 127.0.0.1:10001`,
		a.v1NodeCommand(),
		a.v1PingCommand(),
		a.v1QueryCommand("query", nil, "Run a command on the nodes on the way to a target", (*dhtrpc1.Node).Query),
		a.v1QueryCommand("closest", []string{"update"}, "Run a command on the nodes closest to a target, with proof of our address", (*dhtrpc1.Node).Closest),
		a.v1HolepunchCommand(),
	)
}

package main

import (
	"net/netip"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
)

// Environment variables that stand in for --bootstrap.
const (
	envBootstrap         = "WARREN_BOOTSTRAP"
	envMainlineBootstrap = "WARREN_MAINLINE_BOOTSTRAP"
)

// networkFlags are what every command has that binds a socket.
type networkFlags struct {
	bootstrap string
	host      string
	port      uint16
}

func (f *networkFlags) add(cmd *cobra.Command, env string) {
	flags := cmd.Flags()
	flags.StringVar(&f.bootstrap, "bootstrap", "", "nodes to begin with: `HOST:PORT`[,...], also IP@HOST:PORT, or none ("+env+")")
	flags.StringVar(&f.host, "host", "", "the IPv4 address to bind (0.0.0.0)")
	flags.Uint16Var(&f.port, "port", 0, "the port to bind")
}

// nodes returns the list of --bootstrap or of the environment; nil if neither
// is given.
func (f *networkFlags) nodes(env string) ([]string, error) {
	if f.bootstrap != "" {
		return parseBootstrap("--bootstrap", f.bootstrap)
	}
	if s := os.Getenv(env); s != "" {
		return parseBootstrap(env, s)
	}
	return nil, nil
}

// demand is nodes for commands that have no network to fall back on.
func (f *networkFlags) demand(cmd *cobra.Command, env string) ([]string, error) {
	list, err := f.nodes(env)
	if err == nil && list == nil {
		err = usage("%s: --bootstrap or %s is needed: there is no public network to fall back on", cmd.CommandPath(), env)
	}
	return list, err
}

// bind is the address of --host; 0.0.0.0 if it is not given.
func (f *networkFlags) bind() (netip.Addr, error) {
	if f.host == "" {
		return netip.IPv4Unspecified(), nil
	}
	return parseHost("--host", f.host)
}

// nodeFlags are what every command has that starts a node of the HyperDHT.
type nodeFlags struct {
	networkFlags
	ephemeral  string
	firewalled string
	store      string
	metrics    metricsConfig
}

func (f *nodeFlags) add(cmd *cobra.Command) {
	f.networkFlags.add(cmd, envBootstrap)
	flags := cmd.Flags()
	flags.StringVar(&f.ephemeral, "ephemeral", "auto", "whether to stay out of others' tables: `auto`, true or false")
	flags.Lookup("ephemeral").NoOptDefVal = "true"
	flags.StringVar(&f.firewalled, "firewalled", "", "override what is detected: `true` or false")
	flags.Lookup("firewalled").NoOptDefVal = "true"
	flags.StringVar(&f.store, "store", "", "a `directory` in which to keep what others store here")
	f.metrics.add(cmd)
}

func (f *nodeFlags) ephemeralMode() (dhtrpc.EphemeralMode, error) {
	switch f.ephemeral {
	case "auto":
		return dhtrpc.Auto, nil
	case "true":
		return dhtrpc.Always, nil
	case "false":
		return dhtrpc.Never, nil
	}
	return 0, usage("--ephemeral: %s is not auto, true or false", quote(f.ephemeral))
}

func (f *nodeFlags) firewall() (*bool, error) {
	if f.firewalled == "" {
		return nil, nil
	}
	b, err := strconv.ParseBool(f.firewalled)
	if err != nil {
		return nil, usage("--firewalled: %s is not true or false", quote(f.firewalled))
	}
	return &b, nil
}

// add adds the flags of metrics.
func (m *metricsConfig) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.at, "metrics", "", "serve metrics for Prometheus at http://`HOST:PORT`/metrics, and /healthz")
	cmd.Flags().BoolVar(&m.profile, "pprof", false, "serve profiles at /debug/pprof/ beside the metrics")
}

func (m *metricsConfig) check() error {
	if m.at == "" && m.profile {
		return usage("--pprof needs --metrics HOST:PORT, where it is served")
	}
	if m.at == "" {
		return nil
	}
	return checkTCP("--metrics", m.at, true)
}

// A nodeConfig is what the node flags say.
type nodeConfig struct {
	hyperdht.Config
	store   string
	metrics metricsConfig
}

// node reads the flags. The port is any free one unless --port names it.
func (f *nodeFlags) node(a *app) (cfg nodeConfig, err error) {
	if cfg.Bootstrap, err = f.nodes(envBootstrap); err != nil {
		return cfg, err
	}
	if cfg.Host, err = f.bind(); err != nil {
		return cfg, err
	}
	if cfg.Ephemeral, err = f.ephemeralMode(); err != nil {
		return cfg, err
	}
	if cfg.Firewalled, err = f.firewall(); err != nil {
		return cfg, err
	}
	if cfg.Firewalled != nil && *cfg.Firewalled {
		// A node tests whether it is reachable when it starts, and again before
		// it becomes persistent, which one that is not cannot be.
		if cfg.Ephemeral == dhtrpc.Never {
			return cfg, usage("--ephemeral=false: a node with --firewalled=true cannot serve others")
		}
		cfg.Ephemeral = dhtrpc.Always
		cfg.RPC = func(c *dhtrpc.Config) { c.NoQuickFirewall = true }
	}
	if err := f.metrics.check(); err != nil {
		return cfg, err
	}
	cfg.Port, cfg.ExactPort, cfg.AnyPort = f.port, f.port != 0, f.port == 0
	cfg.Logger = a.log
	cfg.store, cfg.metrics = f.store, f.metrics
	return cfg, nil
}

package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/mainline"
)

// mainlineFlags are what every command of mainline has.
type mainlineFlags struct {
	bootstrap string
	host      string
	bindPort  uint16
	readOnly  bool
}

// add adds the flags; portFlag is the name of the one that binds.
func (f *mainlineFlags) add(cmd *cobra.Command, portFlag string) {
	flags := cmd.Flags()
	flags.StringVar(&f.bootstrap, "bootstrap", "", "nodes to begin with: `HOST:PORT`[,...], or none ("+envMainlineBootstrap+")")
	flags.StringVar(&f.host, "host", "", "the `IP` address to bind, or one of IPv4 and one of IPv6 (0.0.0.0)")
	flags.Uint16Var(&f.bindPort, portFlag, 0, "the port to bind")
	flags.BoolVar(&f.readOnly, "read-only", f.readOnly, "ask and do not answer (BEP 43)")
}

func (f *mainlineFlags) config() (cfg mainline.Config, err error) {
	network := networkFlags{bootstrap: f.bootstrap}
	if cfg.Bootstrap, err = network.nodes(envMainlineBootstrap); err != nil {
		return cfg, err
	}
	for i, s := range cfg.Bootstrap { // the protocol's bootstrap nodes have no IP address in front
		if ip, rest, ok := strings.Cut(s, "@"); ok {
			cfg.Bootstrap[i] = ip + rest[strings.LastIndexByte(rest, ':'):]
		}
	}
	if f.host == "" {
		f.host = "0.0.0.0"
	}
	for s := range strings.SplitSeq(f.host, ",") {
		ip, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			return cfg, usage("--host: %s is not an IP address", quote(s))
		}
		cfg.Addrs = append(cfg.Addrs, netip.AddrPortFrom(ip.Unmap(), f.bindPort))
	}
	cfg.ReadOnly = f.readOnly
	return cfg, nil
}

// mainlineNode starts a node and waits until it has found its way. It fails if
// there are nodes to begin with and none of them answers.
func (a *app) mainlineNode(ctx context.Context, cfg mainline.Config) (*mainline.Node, error) {
	node, err := mainline.Listen(cfg)
	if err != nil {
		return nil, err
	}
	done := a.spin("bootstrapping")
	err = node.Ready(ctx)
	done()
	if err == nil && !cfg.NoBootstrap && node.Stats().Answered == 0 {
		list := cfg.Bootstrap
		if list == nil {
			list = mainline.Routers
		}
		err = silence(list)
	}
	if err != nil {
		node.Close()
		return nil, fmt.Errorf("find the network: %w", stopCause(ctx, err))
	}
	return node, nil
}

// parseMainlineID reads an info-hash, target or id of the public network.
func parseMainlineID(what, s string) (mainline.ID, error) {
	id, err := mainline.ParseID(s)
	if err != nil || len(s) != 40 {
		return id, usage("%s: %s is not 40 hex digits", what, quote(s))
	}
	return id, nil
}

func (a *app) mainlineCommand() *cobra.Command {
	return group("mainline", "Speak to the BitTorrent DHT",
		`Find and announce peers of torrents, and store and read items, in the BitTorrent DHT.
The network is the public one unless --bootstrap or WARREN_MAINLINE_BOOTSTRAP
says otherwise. Info-hashes and targets are 40 hex digits.`,
		`  warren mainline lookup 0303030303030303030303030303030303030303
  warren mainline put 'hello world'`,
		a.mainlineNodeCommand(),
		a.mainlinePingCommand(),
		a.mainlineFindCommand(),
		a.mainlineLookupCommand(),
		a.mainlineAnnounceCommand(),
		a.mainlinePutCommand(),
		a.mainlineGetCommand(),
	)
}

// contactResult prints a node of the BitTorrent DHT.
func (a *app) contactResult(c mainline.Contact) {
	a.result(struct {
		addrJSON
		ID string `json:"id"`
	}{addr(c.Addr), c.ID.String()}, "%v  %v", c.ID, c.Addr)
}

// mainlineAddr looks up an address of either family.
func mainlineAddr(ctx context.Context, what, s string) (netip.AddrPort, error) {
	if to, err := netip.ParseAddrPort(s); err == nil && to.Port() != 0 && to.Addr().Is6() && !to.Addr().Is4In6() {
		return to, nil
	}
	return resolveAddr(ctx, what, s)
}

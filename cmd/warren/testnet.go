package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
)

func (a *app) testnetCommand() *cobra.Command {
	var size int
	var port uint16
	host := "127.0.0.1"
	cmd := &cobra.Command{
		Use:   "testnet",
		Short: "Run a whole network in this process until stopped",
		Long: `Run a network of persistent nodes in this process until stopped, for tests and to try
things out. Point WARREN_BOOTSTRAP at the first address that it prints.`,
		Example: `  warren testnet --size 20`,
		GroupID: groupNodes,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if size < 1 {
				return usage("--size: %d is not positive", size)
			}
			ip, err := parseHost("--host", host)
			if err != nil {
				return err
			}
			if ip.IsUnspecified() || ip.IsMulticast() {
				return usage("--host: %v is no address that nodes can have", ip)
			}
			return a.testnet(cmd.Context(), ip, port, size)
		},
	}
	cmd.Flags().IntVar(&size, "size", 10, "how many nodes")
	cmd.Flags().StringVar(&host, "host", host, "the `IPv4` address of all nodes")
	cmd.Flags().Uint16Var(&port, "port", 0, "the first node's port (any)")
	return cmd
}

func (a *app) testnet(ctx context.Context, host netip.Addr, port uint16, size int) error {
	done := a.spin("starting nodes")
	net, err := startNetwork(ctx, hyperdht.Config{Host: host, Port: port, Logger: a.log}, size)
	done()
	if err != nil {
		return stoppedWell(ctx, err)
	}
	defer net.close()
	type nodeJSON struct {
		addrJSON
		ID string `json:"id"`
	}
	var list []nodeJSON
	for _, n := range net.nodes {
		list = append(list, nodeJSON{addr(n.RPC().LocalAddr()), nodeID(n)})
	}
	a.event(struct {
		Event     string     `json:"event"`
		Bootstrap []string   `json:"bootstrap"`
		Nodes     []nodeJSON `json:"nodes"`
	}{"ready", net.bootstrap, list}, "%d nodes, export %s=%s", len(list), envBootstrap, strings.Join(net.bootstrap, ","))
	if err := untilStopped(ctx); err != nil {
		return err
	}
	net.close()
	a.plainEvent("close")
	return nil
}

// A network is a number of persistent nodes in this process.
type network struct {
	bootstrap []string
	nodes     []*hyperdht.Node
}

// startNetwork starts a network on one address. The port is that of the first
// node.
func startNetwork(ctx context.Context, cfg hyperdht.Config, size int) (n *network, err error) {
	n = &network{}
	cfg.Bootstrap = hyperdht.NoBootstrap
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	first, err := startPersistent(cfg)
	if err != nil {
		return n, err
	}
	n.nodes = append(n.nodes, first)
	n.bootstrap = []string{first.RPC().LocalAddr().String()}
	for range size - 1 {
		c := cfg
		c.Port, c.Bootstrap = 0, n.bootstrap
		node, err := startPersistent(c)
		if err != nil {
			return n, err
		}
		n.nodes = append(n.nodes, node)
	}
	for _, node := range n.nodes {
		if err := node.Ready(ctx); err != nil {
			return n, stopCause(ctx, err)
		}
	}
	return n, nil
}

// attempts is how often a free port is looked for: somebody else may take it
// meanwhile.
const attempts = 5

// startPersistent starts a node that is persistent at once, on any port if none
// is given.
func startPersistent(cfg hyperdht.Config) (node *hyperdht.Node, err error) {
	port := cfg.Port
	for range attempts {
		if cfg.Port = port; port == 0 {
			if cfg.Port, err = freePort(cfg.Host); err != nil {
				return nil, err
			}
		}
		node, err = hyperdht.Bootstrapper(netip.AddrPortFrom(cfg.Host, cfg.Port), cfg)
		if err == nil || port != 0 {
			return node, err
		}
	}
	return nil, fmt.Errorf("no free port on %v: %w", cfg.Host, err)
}

// freePort finds a port that nobody has at present.
func freePort(host netip.Addr) (uint16, error) {
	conn, err := udp.Default.Listen(netip.AddrPortFrom(host, 0))
	if err != nil {
		return 0, err
	}
	return conn.LocalAddr().Port(), conn.Close()
}

// close ends all nodes, the last first.
func (n *network) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var errs []error
	for i := len(n.nodes) - 1; i >= 0; i-- {
		errs = append(errs, n.nodes[i].Shutdown(ctx))
	}
	n.nodes = nil
	return errors.Join(errs...)
}

// Package hyperdhttest makes a HyperDHT network for a test, in one call:
//
//	func TestChat(t *testing.T) {
//		net := hyperdhttest.Start(t, 10)
//		alice, bob := net.Join(hyperdht.Config{}), net.Join(hyperdht.Config{})
//		...
//	}
//
// [Start] uses real sockets on loopback. [StartVirtual] uses a virtual internet,
// so that a test may run in virtual time, in a bubble of testing/synctest, and
// may give nodes a NAT, a bad link or a different address:
//
//	synctest.Test(t, func(t *testing.T) {
//		net := hyperdhttest.StartVirtual(t, 10)
//		bob := net.Join(hyperdht.Config{Network: net.Internet.Host()})
//		time.Sleep(24 * time.Hour) // takes a moment
//	})
//
// Everything is closed when the test ends. [New] is for those who have no test,
// such as a demonstration.
package hyperdhttest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// A Network is a HyperDHT network of its own. Its methods are for one goroutine.
type Network struct {
	// Nodes are the persistent nodes that make up the network, the bootstrap
	// node first.
	Nodes []*hyperdht.Node
	// Bootstrap is the list for the Config of others who join.
	Bootstrap []string
	// Internet is the virtual internet, nil on loopback.
	Internet *vnet.Network

	t      testing.TB // nil without a test
	joined []*hyperdht.Node
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// readyTime bounds how long a node may take to become ready.
const readyTime = 30 * time.Second

// Start makes a network of so many persistent nodes, one at least, on loopback.
func Start(t testing.TB, size int) *Network {
	t.Helper()
	return start(t, nil, size)
}

// StartVirtual makes a network of so many persistent nodes, each on a host of
// its own of a virtual internet. It works in a bubble of testing/synctest and
// outside.
func StartVirtual(t testing.TB, size int) *Network {
	t.Helper()
	internet := vnet.New(1)
	t.Cleanup(internet.Close)
	return start(t, internet, size)
}

func start(t testing.TB, internet *vnet.Network, size int) *Network {
	t.Helper()
	n := &Network{Internet: internet, t: t}
	t.Cleanup(func() { n.Close() })
	if err := n.grow(t.Context(), size); err != nil {
		t.Fatal(err)
	}
	return n
}

// New makes a network of so many persistent nodes on loopback. The caller closes
// it. If the context ends first there is none.
func New(ctx context.Context, size int) (*Network, error) {
	n := &Network{}
	if err := n.grow(ctx, size); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *Network) grow(ctx context.Context, size int) error {
	if size < 1 { // whoever joined would find the public network
		return fmt.Errorf("hyperdhttest: a network of %d nodes", size)
	}
	for range size {
		if err := n.add(ctx); err != nil {
			return fmt.Errorf("hyperdhttest: node %d: %w", len(n.Nodes), err)
		}
	}
	return nil
}

// add starts a persistent node; the first is the bootstrap node.
func (n *Network) add(ctx context.Context) error {
	var node *hyperdht.Node
	var err error
	if len(n.Nodes) == 0 {
		node, err = n.bootstrapper()
	} else {
		cfg := n.config(hyperdht.Config{Ephemeral: dhtrpc.Never, Firewalled: new(bool)})
		node, err = hyperdht.New(cfg)
	}
	if err != nil {
		return err
	}
	n.Nodes = append(n.Nodes, node)
	if err := ready(ctx, node); err != nil {
		return err
	}
	if _, ok := node.RPC().ID(); !ok {
		return errors.New("did not become persistent")
	}
	return nil
}

// bootstrapper starts the first node. It must know its port beforehand, so on
// loopback one that is free just now is tried, a few times.
func (n *Network) bootstrapper() (node *hyperdht.Node, err error) {
	for range 5 {
		addr, cfg := netip.AddrPort{}, n.config(hyperdht.Config{Bootstrap: hyperdht.NoBootstrap})
		if n.Internet != nil {
			h := n.Internet.Host()
			cfg.Network, cfg.Host = h, netip.Addr{}
			addr = netip.AddrPortFrom(h.Addr(), hyperdht.DefaultPort)
		} else if addr, err = freePort(); err != nil {
			return nil, err
		}
		cfg.AnyPort = false
		if node, err = hyperdht.Bootstrapper(addr, cfg); err == nil {
			n.Bootstrap = []string{addr.String()}
			return node, nil
		}
	}
	return nil, err
}

func freePort() (netip.AddrPort, error) {
	c, err := udp.Default.Listen(netip.AddrPortFrom(loopback, 0))
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer c.Close()
	return c.LocalAddr(), nil
}

// config fills in what makes a node a member of this network, as far as it is
// not set.
func (n *Network) config(cfg hyperdht.Config) hyperdht.Config {
	if cfg.Bootstrap == nil {
		cfg.Bootstrap = n.Bootstrap
	}
	switch {
	case n.Internet == nil && !cfg.Host.IsValid():
		cfg.Host = loopback
	case n.Internet != nil && cfg.Network == nil:
		cfg.Network = n.Internet.Host()
	}
	if cfg.Port == 0 && !cfg.ExactPort {
		cfg.AnyPort = true
	}
	return cfg
}

// Config returns a configuration with what makes a node a member of this
// network filled in, as far as it is not set: the bootstrap list, the address
// or a host of its own, any port. Unless it says otherwise the node is
// ephemeral, as clients and servers are.
func (n *Network) Config(cfg hyperdht.Config) hyperdht.Config {
	if cfg.Ephemeral == dhtrpc.Auto {
		cfg.Ephemeral = dhtrpc.Always
	}
	return n.config(cfg)
}

// Join starts a node with [Network.Config] and waits until it is ready. An
// error fails the test. The network closes the node when it is closed itself,
// unless somebody has done so before.
func (n *Network) Join(cfg hyperdht.Config) *hyperdht.Node {
	if n.t == nil {
		panic("hyperdhttest: Join without a test; use JoinContext")
	}
	n.t.Helper()
	node, err := n.JoinContext(n.t.Context(), cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	return node
}

// JoinContext is [Network.Join] for those who have no test.
func (n *Network) JoinContext(ctx context.Context, cfg hyperdht.Config) (*hyperdht.Node, error) {
	node, err := hyperdht.New(n.Config(cfg))
	if err != nil {
		return nil, fmt.Errorf("hyperdhttest: %w", err)
	}
	n.joined = append(n.joined, node)
	if err := ready(ctx, node); err != nil {
		return nil, fmt.Errorf("hyperdhttest: %w", err)
	}
	return node, nil
}

func ready(ctx context.Context, node *hyperdht.Node) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	return node.Ready(ctx)
}

// Close closes all nodes, those that joined first, and returns when nothing of
// them runs any more.
func (n *Network) Close() error {
	var errs []error
	for _, node := range n.joined {
		errs = append(errs, node.Close())
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel() // nobody is left to be told
	for _, node := range n.Nodes {
		errs = append(errs, node.Shutdown(gone))
	}
	n.joined, n.Nodes = nil, nil
	return errors.Join(errs...)
}

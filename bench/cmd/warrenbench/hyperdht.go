package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"flag"
	"maps"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/warren-dht/warren/bench/internal/duo"
	"github.com/warren-dht/warren/bench/internal/measure"
	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
)

// member is the configuration of a node of a network on loopback. A firewalled
// one finds out nothing while it starts, so that it stays firewalled.
func member(bootstrap string, firewalled bool) hyperdht.Config {
	cfg := hyperdht.Config{Host: loopback, AnyPort: true, Bootstrap: strings.Split(bootstrap, ",")}
	if firewalled {
		cfg.RPC = func(c *dhtrpc.Config) { c.NoQuickFirewall = true }
	}
	return cfg
}

// start starts a node and waits until it has bootstrapped.
func start(cfg hyperdht.Config) *hyperdht.Node {
	node, err := hyperdht.New(cfg)
	measure.Check(err)
	measure.Check(node.Ready(context.Background()))
	return node
}

// bootstrapper is the first node of a network.
func bootstrapper(port uint16) (*hyperdht.Node, error) {
	return hyperdht.Bootstrapper(netip.AddrPortFrom(loopback, port), hyperdht.Config{Host: loopback})
}

// hyperBootstrapper is the RPC node beneath it.
func hyperBootstrapper(port uint16) (*dhtrpc.Node, error) {
	node, err := bootstrapper(port)
	if err != nil {
		return nil, err
	}
	return node.RPC(), nil
}

// hdNet: a network of persistent nodes in this process.
func hdNet(flags *flag.FlagSet, args []string) {
	n := flags.Int("n", 50, "nodes")
	port := flags.Uint("port", 0, "port of the first")
	flags.Parse(args)
	began := time.Now()
	var nodes []*hyperdht.Node
	if *port != 0 {
		first, err := bootstrapper(uint16(*port))
		measure.Check(err)
		nodes = append(nodes, first)
	} else {
		nodes = append(nodes, retry(bootstrapper))
	}
	measure.Check(nodes[0].Ready(context.Background()))
	bootstrap := nodes[0].RPC().Addr().String()
	for len(nodes) < *n {
		nodes = append(nodes, start(persistent(bootstrap)))
	}
	count := 0
	for _, node := range nodes {
		if !node.RPC().Ephemeral() {
			count++
		}
	}
	measure.Serve(map[string]any{"bootstrap": bootstrap, "n": *n, "boot_s": time.Since(began).Seconds(), "persistent": count})
}

func persistent(bootstrap string) hyperdht.Config {
	cfg := member(bootstrap, false)
	cfg.Ephemeral = dhtrpc.Never
	cfg.Firewalled = new(bool)
	return cfg
}

// hdNode: one persistent node of a network, idle.
func hdNode(flags *flag.FlagSet, args []string) {
	bootstrap := flags.String("bootstrap", "", "the network")
	flags.Parse(args)
	measure.GC()
	rss0, began := measure.RSS(os.Getpid()), time.Now()
	node := start(persistent(*bootstrap))
	measure.Serve(map[string]any{
		"persistent": !node.RPC().Ephemeral(), "rss0": rss0, "boot_ms": float64(time.Since(began).Microseconds()) / 1e3,
	})
}

// hdOps: one client that puts, gets, announces and looks up.
func hdOps(flags *flag.FlagSet, args []string) {
	bootstrap := flags.String("bootstrap", "", "the network")
	conc := flags.Int("conc", 1, "operations at once")
	count := flags.Int("count", 200, "operations of a kind")
	size := flags.Int("size", 100, "bytes of a value")
	pids := flags.String("pids", "", "the network's process")
	window := flags.Int("window", 0, "requests a slot, 0 for the default")
	wanted := flags.String("ops", "immput,immget,mutput,mutget,announce,lookup", "operations, in this order")
	flags.Parse(args)
	ctx := context.Background()
	cfg := member(*bootstrap, false)
	if *window != 0 {
		cfg.RPC = func(c *dhtrpc.Config) { c.MaxWindow = *window }
	}
	node := start(cfg)
	network := measure.Pids(*pids)

	values, topics := make([][]byte, *count), make([]hyperdht.Target, *count)
	authors, peers := make([]hyperdht.KeyPair, *count), make([]hyperdht.KeyPair, *count)
	for i := range values {
		values[i] = make([]byte, *size)
		rand.Read(values[i])
		rand.Read(topics[i][:])
		authors[i], peers[i] = hyperdht.GenerateKeyPair(), hyperdht.GenerateKeyPair()
	}
	ops := map[string]func(i int) bool{
		"immput": func(i int) bool {
			_, err := node.ImmutablePut(ctx, values[i], hyperdht.PutOptions{})
			return err == nil
		},
		"immget": func(i int) bool {
			r, err := node.ImmutableGet(ctx, hyperdht.Hash(values[i]))
			return err == nil && bytes.Equal(r.Value, values[i])
		},
		"mutput": func(i int) bool {
			_, _, err := node.MutablePut(ctx, hyperdht.SignerOf(authors[i]), 1, values[i], hyperdht.PutOptions{})
			return err == nil
		},
		"mutget": func(i int) bool {
			r, err := node.MutableGet(ctx, authors[i].Public, hyperdht.GetOptions{})
			return err == nil && bytes.Equal(r.Value, values[i])
		},
		"announce": func(i int) bool {
			_, err := node.Announce(ctx, topics[i], hyperdht.SignerOf(peers[i]), hyperdht.AnnounceOptions{})
			return err == nil
		},
		"lookup": func(i int) bool {
			found := false
			for peer, err := range node.Lookup(ctx, topics[i]) {
				if err != nil {
					return false
				}
				found = found || peer.PublicKey == peers[i].Public
			}
			return found
		},
	}
	results := make(map[string]any)
	for name := range strings.SplitSeq(*wanted, ",") {
		op, ok := ops[name]
		if !ok {
			measure.Fatal("no operation %q", name)
		}
		before := node.RPC().Stats().Requests.Total
		r := timed(*count, *conc, network, op)
		r["reqs_per_op"] = float64(node.RPC().Stats().Requests.Total-before) / float64(*count)
		results[name] = r
	}
	measure.Out(map[string]any{"w": "W3", "impl": "warren", "conc": *conc, "count": *count, "window": *window, "ops": results})
}

// hdServer: one node with one listener.
func hdServer(flags *flag.FlagSet, args []string) {
	bootstrap := flags.String("bootstrap", "", "the network")
	punch := flags.Bool("punch", false, "stay firewalled")
	flags.Parse(args)
	node := start(member(*bootstrap, *punch))
	l, err := node.Listen(context.Background(), hyperdht.ListenConfig{MaxConns: -1, MaxPeerConns: -1})
	measure.Check(err)
	go func() {
		for {
			c, err := l.Accept()
			measure.Check(err)
			go duo.Handle(c)
		}
	}()
	measure.Serve(map[string]any{"key": l.PublicKey().String(), "firewalled": node.RPC().Firewalled()})
}

// A ownNode is a connection that closes its node too.
type ownNode struct {
	*hyperdht.Conn
	node *hyperdht.Node
}

func (c ownNode) Close() error {
	c.Conn.Close()
	return c.node.Close()
}

// hdClient: all tests of package duo against an hdServer.
func hdClient(flags *flag.FlagSet, args []string) {
	bootstrap := flags.String("bootstrap", "", "the network")
	keyText := flags.String("key", "", "the server's public key")
	punch := flags.Bool("punch", false, "stay firewalled, and off the local network")
	var o duo.Options
	settle := o.Flags(flags)
	flags.Parse(args)
	settle()
	ctx := context.Background()
	key, err := hyperdht.ParsePublicKey(*keyText)
	measure.Check(err)
	dial := func(node *hyperdht.Node) (*hyperdht.Conn, error) {
		return node.DialWith(ctx, key, hyperdht.DialConfig{NoLAN: *punch})
	}
	var node *hyperdht.Node
	if o.Test != "cold" {
		node = start(member(*bootstrap, *punch))
	}
	o.Dial = func() (duo.Conn, error) { return dial(node) }
	o.Fresh = func() (duo.Conn, error) {
		node, err := hyperdht.New(member(*bootstrap, *punch))
		if err != nil {
			return nil, err
		}
		c, err := dial(node)
		if err != nil {
			return nil, err
		}
		return ownNode{c, node}, nil
	}
	o.Extra = func(c duo.Conn) map[string]any { return streamFigures(c.(*hyperdht.Conn).Stats()) }
	r := map[string]any{"w": "hd-client", "test": o.Test, "impl": "warren"}
	maps.Copy(r, duo.Run(o))
	measure.Out(r)
}

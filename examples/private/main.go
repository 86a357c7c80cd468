// Private is a HyperDHT network that has nothing to do with the public one: a
// bootstrap node, some nodes that keep what is announced, and two peers, one of
// which reaches the other by key.
//
//	go run ./examples/private                               # all of it on loopback
//	go run ./examples/private -host 10.0.0.5 -port 49737 -stay
//
// With -stay it goes on until it is interrupted; whoever has the address that it
// prints as bootstrap is in. A network has no password: keep its port behind a
// firewall or a VPN, and let a listener say who may connect, as here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/netip"
	"os"
	"os/signal"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
)

// options are what the command line says.
type options struct {
	host  netip.Addr
	port  uint16 // of the bootstrap node; 0: one that is free
	nodes int
	stay  bool
}

func main() {
	log.SetFlags(0)
	var o options
	host := flag.String("host", "127.0.0.1", "this machine's IPv4 address in the network")
	port := flag.Uint("port", 0, "port of the bootstrap node; 0: one that is free")
	flag.IntVar(&o.nodes, "nodes", 10, "how many nodes there are beside it")
	flag.BoolVar(&o.stay, "stay", false, "stay until interrupted")
	flag.Parse()
	addr, err := netip.ParseAddr(*host)
	if err != nil || !addr.Is4() || *port > 65535 || flag.NArg() > 0 {
		log.Fatal("usage: private [flags]; -host is an IPv4 address, -port at most 65535")
	}
	o.host, o.port = addr, uint16(*port)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, udp.Default, o); err != nil {
		log.Fatal(err)
	}
}

// run makes the network on one host.
func run(ctx context.Context, out io.Writer, network udp.Network, o options) error {
	base := hyperdht.Config{Network: network, Host: o.host, AnyPort: true}

	// The first node is told its address, as nobody is there to see it.
	if o.port == 0 {
		probe, err := network.Listen(netip.AddrPortFrom(o.host, 0))
		if err != nil {
			return err
		}
		o.port = probe.LocalAddr().Port()
		probe.Close()
	}
	at := netip.AddrPortFrom(o.host, o.port)
	boot, err := hyperdht.Bootstrapper(at, hyperdht.Config{Network: network, Host: o.host})
	if err != nil {
		return err
	}
	defer boot.Close()
	base.Bootstrap = []string{at.String()}

	// The others need not find out that they can be reached and stay.
	for range o.nodes {
		cfg, open := base, false
		cfg.Ephemeral, cfg.Firewalled = dhtrpc.Never, &open
		node, err := hyperdht.New(cfg)
		if err != nil {
			return err
		}
		defer node.Close()
		if err := node.Ready(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "a network of %d nodes, bootstrap %v\n", o.nodes+1, at)

	// Peers are no part of the network's memory.
	base.Ephemeral = dhtrpc.Always
	alice, err := hyperdht.New(base)
	if err != nil {
		return err
	}
	defer alice.Close()
	bob, err := hyperdht.New(base)
	if err != nil {
		return err
	}
	defer bob.Close()
	for _, peer := range []*hyperdht.Node{alice, bob} {
		if err := peer.Ready(ctx); err != nil {
			return err
		}
	}
	if err := greet(ctx, out, alice, bob); err != nil {
		return err
	}
	if o.stay {
		<-ctx.Done()
	}
	return nil
}

// greet has bob say hello to alice, who listens to him only.
func greet(ctx context.Context, out io.Writer, alice, bob *hyperdht.Node) error {
	friend := bob.KeyPair().Public
	l, err := alice.Listen(ctx, hyperdht.ListenConfig{
		Allow: func(_ context.Context, in hyperdht.Incoming) error {
			if in.RemotePublicKey != friend {
				return errors.New("not on the list")
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.AcceptConn(ctx)
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "hello %.8s", conn.RemotePublicKey())
			conn.Close()
		}
	}()

	conn, err := bob.Dial(ctx, l.PublicKey())
	if err != nil {
		return err
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%.8s said %q to him, path %v\n", conn.RemotePublicKey(), text, conn.Path().Kind)

	// Somebody else gets no answer at all.
	stranger := hyperdht.GenerateKeyPair()
	other, err := bob.DialWith(ctx, l.PublicKey(), hyperdht.DialConfig{KeyPair: stranger})
	if err == nil {
		other.Close()
		return errors.New("private: a stranger was let in")
	}
	if ctx.Err() != nil {
		return err
	}
	fmt.Fprintf(out, "a stranger was kept out: %v\n", err)
	return nil
}

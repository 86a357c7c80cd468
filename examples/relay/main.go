// Relay runs a blind relay, and an echo service whose peers have no other path
// than through it. A relay sees sealed packets only.
//
//	go run ./examples/relay -serve                    # prints the relay's key
//	go run ./examples/relay -echo -through RELAYKEY   # prints the service's key
//	go run ./examples/relay -through RELAYKEY KEY     # says something to it
//	go run ./examples/relay -bootstrap 127.0.0.1:49737 ...
//
// Usually one names a relay and no more: the connection begins through it and
// moves to a direct or punched path once there is one. Here both peers take
// themselves for firewalled, do not punch and do not use local addresses, so that
// the relay has to carry everything.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/relay"
)

// options are what the command line says.
type options struct {
	serve, echo bool
	through     string // the relay's key
	key         string // whom to talk to
	say         string
}

func main() {
	log.SetFlags(0)
	var o options
	bootstrap := flag.String("bootstrap", "", "host:port,... of nodes to begin with (default: the public network)")
	flag.BoolVar(&o.serve, "serve", false, "be the relay")
	flag.BoolVar(&o.echo, "echo", false, "be the echo service")
	flag.StringVar(&o.through, "through", "", "the relay's key")
	flag.StringVar(&o.say, "say", "hello", "what to say")
	flag.Parse()
	o.key = flag.Arg(0)
	if !o.serve && (o.through == "" || !o.echo && o.key == "") {
		log.Fatal("usage: relay -serve, relay -echo -through RELAYKEY, or relay -through RELAYKEY KEY")
	}
	var cfg hyperdht.Config
	if *bootstrap != "" {
		cfg.Bootstrap = strings.Split(*bootstrap, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, cfg, o); err != nil {
		log.Fatal(err)
	}
}

// run is the relay or the service until the context ends, or talks to the
// service.
func run(ctx context.Context, out io.Writer, cfg hyperdht.Config, o options) error {
	if o.serve {
		return serve(ctx, out, cfg)
	}
	through, err := hyperdht.ParsePublicKey(o.through)
	if err != nil {
		return err
	}
	// A node takes itself for firewalled until it has been tested: ephemeral ones
	// are tested when they start only.
	cfg.Ephemeral = dhtrpc.Always
	cfg.RPC = func(c *dhtrpc.Config) { c.NoQuickFirewall = true }
	node, err := hyperdht.New(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	if o.echo {
		return echo(ctx, out, node, through)
	}
	key, err := hyperdht.ParsePublicKey(o.key)
	if err != nil {
		return err
	}
	return talk(ctx, out, node, through, key, o.say)
}

// serve is the relay. It should be open to the world.
func serve(ctx context.Context, out io.Writer, cfg hyperdht.Config) error {
	node, err := hyperdht.New(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	l, err := node.Listen(ctx, hyperdht.ListenConfig{})
	if err != nil {
		return err
	}
	server := node.ServeRelay(l, relay.Config{MaxPairs: 100, MaxPerSource: 10})
	defer server.Close()
	fmt.Fprintf(out, "relay %v\n", server.PublicKey())
	<-ctx.Done()
	fmt.Fprintf(out, "%d pairs were relayed\n", server.Stats().Pairings.Matched)
	return nil
}

// echo sends back what it gets. Peers are told that they can come through the
// relay, whether they name it or not.
func echo(ctx context.Context, out io.Writer, node *hyperdht.Node, through hyperdht.PublicKey) error {
	l, err := node.Listen(ctx, hyperdht.ListenConfig{
		RelayThrough:       []hyperdht.PublicKey{through},
		Holepunch:          never,
		HideLocalAddresses: true,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "echo at %v\n", l.PublicKey())
	for {
		conn, err := l.AcceptConn(ctx)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil
		} else if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if _, err := io.Copy(conn, conn); err == nil {
				conn.CloseWrite()
			}
		}()
	}
}

// never lets nobody punch. (ListenConfig.NoHolepunch would say that we are open
// to everybody without it.)
func never(hyperdht.PunchAttempt) bool { return false }

// talk says something to the service and prints the answer.
func talk(ctx context.Context, out io.Writer, node *hyperdht.Node, through, key hyperdht.PublicKey, text string) error {
	conn, err := node.DialWith(ctx, key, hyperdht.DialConfig{
		RelayThrough: []hyperdht.PublicKey{through},
		NoLAN:        true,
		NoFastOpen:   true,
		Holepunch:    never,
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%q came back, path %v\n", answer, conn.Path().Kind)
	return nil
}

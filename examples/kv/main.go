// Kv is the key-value store of the dht-rpc README in Go: a bootstrap node, a
// hundred nodes that keep values under their SHA-256, and a client that stores
// one and finds it again.
//
//	go run ./examples/kv                                 # the whole story
//	go run ./examples/kv -put "" -stay                   # a network, until interrupted
//	go run ./examples/kv -bootstrap 127.0.0.1:49737 -nodes 0 -put 'hello world'
//	go run ./examples/kv -bootstrap 127.0.0.1:49737 -nodes 0 -get b94d27b9...
//
// Nodes of npm dht-rpc that serve command 0 as the README does can be members of
// the same network.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/netip"
	"os"
	"os/signal"
	"strings"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/udp"
)

// values is the only command of the application.
const values = 0

// options are what the command line says.
type options struct {
	host      netip.Addr
	port      uint16   // of the bootstrap node, if there is none yet
	bootstrap []string // of a network that exists; empty: a new one
	nodes     int
	put       []byte // nil: nothing
	get       []byte // the key; nil: what was put
	stay      bool
}

func main() {
	log.SetFlags(0)
	o := options{host: netip.MustParseAddr("127.0.0.1")}
	port := flag.Uint("port", 0, "port of the bootstrap node of a new network; 0: one that is free")
	bootstrap := flag.String("bootstrap", "", "host:port[,...] of a network to join instead of making one")
	flag.IntVar(&o.nodes, "nodes", 100, "how many nodes keep values")
	put := flag.String("put", "hello world", "what to store; empty: nothing")
	get := flag.String("get", "", "what to find, 64 hex digits; empty: what was stored")
	flag.BoolVar(&o.stay, "stay", false, "stay a part of the network until interrupted")
	flag.Parse()
	o.port = uint16(*port)
	if *bootstrap != "" {
		o.bootstrap = strings.Split(*bootstrap, ",")
	}
	if *get != "" {
		key, err := hex.DecodeString(*get)
		if err != nil || len(key) != sha256.Size {
			log.Fatalf("kv: -get %q: want 64 hex digits", *get)
		}
		o.get = key
	} else if *put != "" {
		o.put = []byte(*put)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, udp.Default, o); err != nil {
		log.Fatal(err)
	}
}

// run does everything on one host of a network.
func run(ctx context.Context, out io.Writer, network udp.Network, o options) error {
	base := dhtrpc.Config{Network: network, Host: o.host, Bootstrap: o.bootstrap}
	if len(o.bootstrap) == 0 {
		// The first node of a network knows its own address, as nobody is there
		// to tell it.
		if o.port == 0 {
			port, err := freePort(network, o.host)
			if err != nil {
				return err
			}
			o.port = port
		}
		first, err := dhtrpc.Bootstrapper(netip.AddrPortFrom(o.host, o.port), base)
		if err != nil {
			return err
		}
		defer first.Close()
		if err := first.Ready(ctx); err != nil {
			return err
		}
		base.Bootstrap = []string{first.PublicAddr().String()}
	}

	for range o.nodes {
		cfg := base
		cfg.Ephemeral = dhtrpc.Never // part of the network from the start
		cfg.Handler = store{}
		node, err := dhtrpc.Listen(cfg)
		if err != nil {
			return err
		}
		defer node.Close()
		if err := node.Ready(ctx); err != nil {
			return err
		}
	}
	if o.stay {
		fmt.Fprintf(out, "%d nodes, bootstrap %s\n", o.nodes, strings.Join(base.Bootstrap, ","))
	}

	// The client does not become a part of the network.
	cfg := base
	cfg.Ephemeral = dhtrpc.Always
	client, err := dhtrpc.Listen(cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	if o.put != nil {
		key := dhtrpc.ID(sha256.Sum256(o.put))
		if err := put(ctx, out, client, key, o.put); err != nil {
			return err
		}
		o.get = key[:]
	}
	if o.get != nil {
		if err := get(ctx, out, client, dhtrpc.ID(o.get)); err != nil {
			return err
		}
	}
	if o.stay {
		<-ctx.Done()
	}
	return nil
}

// freePort returns a port that nobody holds.
func freePort(network udp.Network, host netip.Addr) (uint16, error) {
	conn, err := network.Listen(netip.AddrPortFrom(host, 0))
	if err != nil {
		return 0, err
	}
	return conn.LocalAddr().Port(), conn.Close()
}

// put walks to the nodes closest to the key, each of which gives a token, and
// sends them the value with it.
func put(ctx context.Context, out io.Writer, client *dhtrpc.Node, key dhtrpc.ID, value []byte) error {
	q := client.Query(dhtrpc.Message{Command: values, Target: &key, Value: value}, dhtrpc.QueryOptions{Commit: true})
	if err := q.Run(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "stored %v at %d nodes\n", key, len(q.Closest()))
	return nil
}

// get asks on the way to the key until somebody has the value.
func get(ctx context.Context, out io.Writer, client *dhtrpc.Node, key dhtrpc.ID) error {
	asked := 0
	q := client.Query(dhtrpc.Message{Command: values, Target: &key}, dhtrpc.QueryOptions{})
	for reply, err := range q.Replies(ctx) {
		if err != nil {
			return err
		}
		asked++
		// Anybody may answer anything: the key proves the value.
		if reply.Value != nil && dhtrpc.ID(sha256.Sum256(reply.Value)) == key {
			fmt.Fprintf(out, "found %q at %v, reply %d\n", reply.Value, reply.From.Addr(), asked)
			return nil // ends the query
		}
	}
	return errors.New("kv: the value was not found")
}

// A store keeps the values of one node. It is used under the node's lock only,
// so it needs no other.
type store map[dhtrpc.ID][]byte

// maxValues bounds a store, since anybody may put something into it.
const maxValues = 10000

// ServeRPC implements [dhtrpc.Handler].
func (s store) ServeRPC(r *dhtrpc.Request) bool {
	switch {
	case r.Command != values || r.Target == nil:
		return false
	case r.Token != nil && r.Value != nil:
		// A commit: we are among the closest nodes, and the sender is where it
		// says. The value must belong to the key.
		if key := dhtrpc.ID(sha256.Sum256(r.Value)); key == *r.Target && len(s) < maxValues {
			s[key] = bytes.Clone(r.Value)
		}
		r.Reply(nil)
	default:
		r.Reply(s[*r.Target])
	}
	return true
}

// Kv1 is the key-value store of the dht-rpc 1.x README in Go: a bootstrap node,
// a hundred nodes that keep values under their SHA-256, and a client that
// stores one and finds it again.
//
//	go run ./examples/kv1 -value 'hello world'
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/netip"
	"os"

	"github.com/warren-dht/warren/dhtrpc1"
	"github.com/warren-dht/warren/udp"
)

func main() {
	nodes := flag.Int("nodes", 100, "how many nodes keep values")
	value := flag.String("value", "hello world", "what to store")
	flag.Parse()
	host := netip.MustParseAddr("127.0.0.1")
	if err := run(context.Background(), os.Stdout, udp.Default, host, *nodes, []byte(*value)); err != nil {
		log.Fatal(err)
	}
}

// run does everything on one host of a network.
func run(ctx context.Context, out io.Writer, network udp.Network, host netip.Addr, size int, value []byte) error {
	// The bootstrap node is ephemeral, so that nobody lists it.
	bootstrap, err := dhtrpc1.Listen(dhtrpc1.Config{Network: network, Host: host, Ephemeral: true})
	if err != nil {
		return err
	}
	defer bootstrap.Close()
	known := []netip.AddrPort{bootstrap.LocalAddr()}

	for range size {
		node, err := dhtrpc1.Listen(dhtrpc1.Config{Network: network, Host: host, Bootstrap: known, Handler: store()})
		if err != nil {
			return err
		}
		defer node.Close()
		if err := node.Ready(ctx); err != nil {
			return err
		}
	}

	// The client does not become part of the network.
	client, err := dhtrpc1.Listen(dhtrpc1.Config{Network: network, Host: host, Bootstrap: known, Ephemeral: true})
	if err != nil {
		return err
	}
	defer client.Close()

	key := dhtrpc1.ID(sha256.Sum256(value))
	stored, err := dhtrpc1.Collect(client.Closest(ctx, dhtrpc1.Query{Command: "values", Target: key, Value: value}))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "stored %x at %d nodes\n", key, len(stored))

	asked := 0
	for reply, err := range client.Query(ctx, dhtrpc1.Query{Command: "values", Target: key}) {
		if err != nil {
			return err
		}
		asked++
		// Anybody may answer anything: the key proves the value.
		if reply.Value != nil && dhtrpc1.ID(sha256.Sum256(reply.Value)) == key {
			fmt.Fprintf(out, "found %q at %v, reply %d\n", reply.Value, reply.From.Addr, asked)
			return nil // ends the query
		}
	}
	return errors.New("the value was not found")
}

// store returns the handlers of one node. They run on the node's loop, so the
// map needs no lock.
func store() *dhtrpc1.Mux {
	var mux dhtrpc1.Mux
	values := map[dhtrpc1.ID][]byte{}
	// We are among the closest nodes, and the sender's address is proven.
	mux.HandleClosest("values", func(r *dhtrpc1.Request) {
		if r.Value != nil {
			values[sha256.Sum256(r.Value)] = r.Value
		}
		r.Reply(nil)
	})
	mux.HandleQuery("values", func(r *dhtrpc1.Request) { r.Reply(values[r.Target]) })
	return &mux
}

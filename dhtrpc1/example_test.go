package dhtrpc1_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log"
	"net/netip"

	"github.com/warren-dht/warren/dhtrpc1"
)

// The key-value store of dht-rpc's README on two nodes; examples/kv1 has a
// hundred.
func Example() {
	ctx := context.Background()
	loopback := netip.MustParseAddr("127.0.0.1")

	values := map[dhtrpc1.ID][]byte{} // belongs to the node's loop
	var mux dhtrpc1.Mux
	mux.HandleClosest("values", func(r *dhtrpc1.Request) {
		values[sha256.Sum256(r.Value)] = r.Value
		r.Reply(nil)
	})
	mux.HandleQuery("values", func(r *dhtrpc1.Request) { r.Reply(values[r.Target]) })
	server, err := dhtrpc1.Listen(dhtrpc1.Config{Host: loopback, Handler: &mux})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	client, err := dhtrpc1.Listen(dhtrpc1.Config{Host: loopback, Bootstrap: []netip.AddrPort{server.LocalAddr()}, Ephemeral: true})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	value := []byte("hello")
	key := dhtrpc1.ID(sha256.Sum256(value))
	stored, err := dhtrpc1.Collect(client.Closest(ctx, dhtrpc1.Query{Command: "values", Target: key, Value: value}))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored at", len(stored), "node")
	for reply, err := range client.Query(ctx, dhtrpc1.Query{Command: "values", Target: key}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", reply.Value)
	}
	// Output:
	// stored at 1 node
	// hello
}

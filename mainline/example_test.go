package mainline_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log"
	"net/netip"

	"github.com/warren-dht/warren/mainline"
)

// A network of its own on this machine: the first node knows nobody, the others
// begin with it.
func ExampleListen() {
	ctx := context.Background()
	bootstrap := []string{} // not nil: that would be the public network
	var nodes []*mainline.Node
	for range 10 {
		node, err := mainline.Listen(mainline.Config{
			Addrs:     []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
			Bootstrap: bootstrap,
		})
		if err != nil {
			log.Fatal(err)
		}
		defer node.Close()
		if err := node.Ready(ctx); err != nil {
			log.Fatal(err)
		}
		nodes = append(nodes, node)
		bootstrap = []string{nodes[0].Addr().String()}
	}

	// A peer of a torrent.
	torrent, _ := mainline.ParseID("9f9165d9a281a9b8e782cd5176bbcc8256fd1871")
	if _, err := nodes[3].Announce(ctx, torrent, mainline.AnnounceOptions{Port: 6881}); err != nil {
		log.Fatal(err)
	}
	lookup := nodes[7].Lookup(torrent)
	for peer := range lookup.Peers(ctx) {
		fmt.Println("peer", peer.Addr)
	}

	// An item that its owner can replace.
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	stored, err := nodes[3].Put(ctx, mainline.Sign(key, nil, 1, mainline.StringValue("hello")))
	if err != nil {
		log.Fatal(err)
	}
	found, err := nodes[7].Get(ctx, stored.Target)
	if err != nil {
		log.Fatal(err)
	}
	value, _ := found.Bytes()
	fmt.Printf("item %s, version %d\n", value, found.Seq)

	// Output:
	// peer 127.0.0.1:6881
	// item hello, version 1
}

// Package readme holds the Go of README.md, so that it compiles and runs. The
// test compares the two: what stands between the lines of a region there stands
// here, too.
package readme

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/dhtrpc1"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/mainline"
)

// Serve serves a handler on the node's public key until ctx ends.
func Serve(ctx context.Context, cfg hyperdht.Config, handler http.Handler, ready func(hyperdht.PublicKey)) error {
	// region: serve
	node, err := hyperdht.New(cfg) // hyperdht.Config{} joins the public network
	if err != nil {
		return err
	}
	defer node.Close()
	l, err := node.Listen(ctx, hyperdht.ListenConfig{})
	if err != nil {
		return err
	}
	fmt.Println("serving at", l.PublicKey())
	go http.Serve(l, handler)
	// end
	ready(l.PublicKey())
	<-ctx.Done()
	return nil
}

// Fetch fetches a path from the server with a public key.
func Fetch(ctx context.Context, cfg hyperdht.Config, key hyperdht.PublicKey) ([]byte, error) {
	// region: fetch
	node, err := hyperdht.New(cfg)
	if err != nil {
		return nil, err
	}
	defer node.Close()
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return node.Dial(ctx, key) },
	}}
	resp, err := client.Get("http://peer/")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
	// end
}

// Records stores and reads records, and finds who announced a topic.
func Records(ctx context.Context, node *hyperdht.Node) error {
	// region: records
	stored, err := node.ImmutablePut(ctx, []byte("hello"), hyperdht.PutOptions{})
	if err != nil {
		return err
	}
	found, err := node.ImmutableGet(ctx, stored.Target) // from anywhere
	if err != nil {
		return err
	}
	fmt.Printf("%s is kept by %d nodes\n", found.Value, len(stored.Nodes))

	topic := sha256.Sum256([]byte("my chat room"))
	if _, err := node.Announce(ctx, topic, hyperdht.SignerOf(node.KeyPair()), hyperdht.AnnounceOptions{}); err != nil {
		return err
	}
	for peer, err := range node.Lookup(ctx, topic) {
		if err != nil {
			return err
		}
		fmt.Println("in the room:", peer.PublicKey)
	}
	// end
	return nil
}

// Commands runs a command of one's own over a Kademlia DHT.
func Commands(ctx context.Context, bootstrap []string, host netip.Addr) error {
	// region: dhtrpc
	const echo = 0
	node, err := dhtrpc.Listen(dhtrpc.Config{
		Host:      host,
		Bootstrap: bootstrap,
		Handler: dhtrpc.HandlerFunc(func(r *dhtrpc.Request) bool {
			if r.Command != echo {
				return false
			}
			r.Reply(r.Value)
			return true
		}),
	})
	if err != nil {
		return err
	}
	defer node.Close()
	target := dhtrpc.ID(sha256.Sum256([]byte("somewhere")))
	q := node.Query(dhtrpc.Message{Command: echo, Target: &target, Value: []byte("hello")}, dhtrpc.QueryOptions{})
	for reply, err := range q.Replies(ctx) {
		if err != nil {
			return err
		}
		fmt.Printf("%v says %s\n", reply.From, reply.Value)
	}
	// end
	return nil
}

// Torrent finds the peers of a torrent.
func Torrent(ctx context.Context, cfg mainline.Config, infoHash mainline.ID) error {
	// region: mainline
	node, err := mainline.Listen(cfg) // mainline.Config{} joins the public network
	if err != nil {
		return err
	}
	defer node.Close()
	if _, err := node.Announce(ctx, infoHash, mainline.AnnounceOptions{Port: 6881}); err != nil {
		return err
	}
	lookup := node.Lookup(infoHash)
	for peer := range lookup.Peers(ctx) {
		fmt.Println(peer.Addr)
	}
	return lookup.Err()
	// end
}

// First asks a network of the first dht-rpc.
func First(ctx context.Context, cfg dhtrpc1.Config, target dhtrpc1.ID) error {
	// region: dhtrpc1
	node, err := dhtrpc1.Listen(cfg)
	if err != nil {
		return err
	}
	defer node.Close()
	for reply, err := range node.Query(ctx, dhtrpc1.Query{Command: "values", Target: target}) {
		if err != nil {
			return err
		}
		fmt.Printf("%v: %s\n", reply.From, reply.Value)
	}
	// end
	return nil
}

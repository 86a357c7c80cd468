package hyperdht_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/hyperdhttest"
)

// exampleNet is a small network on loopback with one client. Programs use
// hyperdht.New(hyperdht.Config{}) instead, and are on the public network.
func exampleNet() (client *hyperdht.Node, stop func()) {
	net, err := hyperdhttest.New(context.Background(), 8)
	if err != nil {
		panic(err)
	}
	client, err = net.JoinContext(context.Background(), hyperdht.Config{})
	if err != nil {
		panic(err)
	}
	return client, func() { net.Close() }
}

// An immutable record is found under the hash of its value.
func ExampleNode_ImmutablePut() {
	node, stop := exampleNet()
	defer stop()
	ctx := context.Background()

	put, err := node.ImmutablePut(ctx, []byte("hello world"), hyperdht.PutOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := node.ImmutableGet(ctx, put.Target)
	fmt.Printf("%s, from one of %d nodes, %v\n", got.Value, len(put.Nodes), err)
	// Output: hello world, from one of 8 nodes, <nil>
}

// A mutable record is found under its owner's key. A higher sequence number
// replaces a lower one.
func ExampleNode_MutablePut() {
	node, stop := exampleNet()
	defer stop()
	ctx := context.Background()
	keys := hyperdht.KeyPairFromSeed([32]byte{1})
	signer := hyperdht.SignerOf(keys)

	for seq, value := range []string{"first", "second"} {
		if _, _, err := node.MutablePut(ctx, signer, uint64(seq), []byte(value), hyperdht.PutOptions{}); err != nil {
			fmt.Println(err)
		}
	}
	_, _, err := node.MutablePut(ctx, signer, 0, []byte("too late"), hyperdht.PutOptions{})
	fmt.Println(errors.Is(err, hyperdht.SeqTooLow))

	got, err := node.MutableGet(ctx, keys.Public, hyperdht.GetOptions{})
	fmt.Printf("%d %s %v\n", got.Seq, got.Value, err)
	// Output:
	// true
	// 1 second <nil>
}

// Whoever announces a topic is found by those who look it up.
func ExampleNode_Announce() {
	node, stop := exampleNet()
	defer stop()
	ctx := context.Background()
	topic := hyperdht.Hash([]byte("chess"))
	keys := hyperdht.KeyPairFromSeed([32]byte{1})

	if _, err := node.Announce(ctx, topic, hyperdht.SignerOf(keys), hyperdht.AnnounceOptions{}); err != nil {
		fmt.Println(err)
		return
	}
	for peer, err := range node.Lookup(ctx, topic) {
		fmt.Println(peer.PublicKey == keys.Public, err)
		break // every node of the network tells the same
	}
	// Output: true <nil>
}

// A plugin adds commands to a network whose nodes have it.
func ExampleNode_Register() {
	net, err := hyperdhttest.New(context.Background(), 4)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer net.Close()
	ctx := context.Background()
	const greet = 0
	server := net.Nodes[1]
	_, err = server.Register(hyperdht.Plugin{Name: "greeter", Version: 1, Serve: func(r *hyperdht.PluginRequest) {
		if r.Command == greet {
			r.Reply([]byte("hello " + string(r.Value)))
		}
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := net.Nodes[2].Register(hyperdht.Plugin{Name: "greeter", Version: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	reply, err := client.Request(ctx, server.RPC().LocalAddr(), hyperdht.PluginMessage{Command: greet, Value: []byte("world")})
	fmt.Printf("%s %v\n", reply.Value, err)
	// Output: hello world <nil>
}

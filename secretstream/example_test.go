package secretstream_test

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/warren-dht/warren/noise"
	"github.com/warren-dht/warren/secretstream"
)

// Two programs over TCP. The client knows whom it wants to talk to; both know
// each other's key afterwards.
func Example() {
	ctx := context.Background()
	server := noise.KeyPairFromSeed([32]byte{1})
	client := noise.KeyPairFromSeed([32]byte{2})

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	go func() {
		raw, err := l.Accept()
		if err != nil {
			return
		}
		c, err := secretstream.Server(ctx, raw, secretstream.Config{Static: server})
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "hello %v", c.RemotePublicKey() == client.Public)
	}()

	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		panic(err)
	}
	c, err := secretstream.Client(ctx, raw, secretstream.Config{
		Static:          client,
		RemotePublicKey: server.Public,
	})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	fmt.Printf("%s, %v\n", b, err)
	// Output: hello true, <nil>
}

package hyperdhttest_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/hyperdhttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// use does what a network is for: a server is found and reached, records are
// stored and read.
func use(t *testing.T, net *hyperdhttest.Network) {
	ctx := t.Context()
	server, client := net.Join(hyperdht.Config{}), net.Join(hyperdht.Config{})
	l, err := server.Listen(ctx, hyperdht.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "hello")
	}()
	conn, err := client.Dial(ctx, server.KeyPair().Public)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	conn.Close()
	<-done
	put, err := server.ImmutablePut(ctx, []byte("value"), hyperdht.PutOptions{})
	if err != nil || len(put.Nodes) != len(net.Nodes) {
		t.Errorf("stored at %d nodes, %v", len(put.Nodes), err)
	}
	if r, err := client.ImmutableGet(ctx, put.Target); err != nil || string(r.Value) != "value" {
		t.Errorf("%q, %v", r.Value, err)
	}
}

func TestLoopback(t *testing.T) { use(t, hyperdhttest.Start(t, 5)) }

func TestVirtual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		use(t, hyperdhttest.StartVirtual(t, 5))
		if took := time.Since(began); took == 0 || took > time.Minute {
			t.Errorf("took %v of virtual time", took)
		}
	})
}

func TestWithoutATest(t *testing.T) {
	net, err := hyperdhttest.New(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := net.JoinContext(t.Context(), hyperdht.Config{}); err != nil {
		t.Error(err)
	}
	if err := net.Close(); err != nil {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := hyperdhttest.New(ended, 3); err == nil {
		t.Error("a network although the context has ended")
	}
	if _, err := hyperdhttest.New(t.Context(), 0); err == nil {
		t.Error("a network of nobody: who joins it joins the public one")
	}
}

func Example() {
	ctx := context.Background()
	net, err := hyperdhttest.New(ctx, 4)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer net.Close()
	node, err := net.JoinContext(ctx, hyperdht.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	put, err := node.ImmutablePut(ctx, []byte("hello"), hyperdht.PutOptions{})
	fmt.Println(len(put.Nodes), err)
	// Output: 4 <nil>
}

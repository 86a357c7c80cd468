//go:build interop

package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
)

var localhost = netip.MustParseAddr("127.0.0.1")

// goNode starts a HyperDHT node of ours on loopback.
func goNode(t testing.TB, cfg hyperdht.Config) *hyperdht.Node {
	t.Helper()
	cfg.Host, cfg.AnyPort = localhost, true
	n, err := hyperdht.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := n.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return n
}

// goTestnet starts a network of persistent nodes of ours, or adds to one.
func goTestnet(t testing.TB, size int, boot []string) []string {
	t.Helper()
	open := false
	for i := range size {
		cfg := hyperdht.Config{Bootstrap: boot, Ephemeral: dhtrpc.Never, Firewalled: &open}
		if boot == nil {
			cfg.Bootstrap = hyperdht.NoBootstrap
			port := freePort(t)
			n, err := hyperdht.Bootstrapper(netip.AddrPortFrom(localhost, port), hyperdht.Config{Host: localhost})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { n.Close() })
			boot = []string{fmt.Sprintf("127.0.0.1:%d", port)}
			continue
		}
		n := goNode(t, cfg)
		if _, ok := n.RPC().ID(); !ok {
			t.Fatalf("node %d is not persistent", i)
		}
	}
	return boot
}

func freePort(t testing.TB) uint16 {
	t.Helper()
	c, err := udp.Default.Listen(netip.AddrPortFrom(localhost, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().Port()
}

// networks are the networks on which every conversation takes place.
func networks(t *testing.T, f func(t *testing.T, js *Peer, boot []string)) {
	t.Run("warren", func(t *testing.T) {
		js := StartJS(t, "hyperdht.js")
		f(t, js, goTestnet(t, 8, nil))
	})
	t.Run("javascript", func(t *testing.T) {
		js := StartJS(t, "hyperdht.js")
		var net Testnet
		js.Must("testnet", Args{"size": 8}, &net)
		f(t, js, net.Bootstrap)
	})
	t.Run("mixed", func(t *testing.T) {
		js := StartJS(t, "hyperdht.js")
		boot := goTestnet(t, 5, nil)
		var net Testnet
		js.Must("testnet", Args{"size": 5, "bootstrap": boot}, &net)
		f(t, js, boot)
	})
}

const bulk = 64 << 20

// exchange carries size bytes in each direction at once and then both ends.
func exchange(t *testing.T, conn *hyperdht.Conn, js *Stream, size int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if hash := conn.HandshakeHash(); !bytes.Equal(js.Info.HandshakeHash, hash[:]) {
		t.Errorf("handshake hashes differ: %v and %x", js.Info.HandshakeHash, hash)
	}
	if key := conn.PublicKey(); !bytes.Equal(js.Info.RemotePublicKey, key[:]) {
		t.Errorf("they see %v, we are %v", js.Info.RemotePublicKey, key)
	}
	if key := conn.RemotePublicKey(); !bytes.Equal(js.Info.PublicKey, key[:]) {
		t.Errorf("we see %v, they are %v", key, js.Info.PublicKey)
	}
	errs := make(chan error, 2)
	go func() {
		_, err := io.CopyN(conn, Pattern("go"), size)
		if err == nil {
			err = conn.CloseWrite()
		}
		errs <- err
	}()
	go func() {
		err := js.Send(ctx, "js", size)
		if err == nil {
			err = js.End(ctx)
		}
		errs <- err
	}()
	received := make(chan error, 1)
	go func() {
		r, err := js.Receive(ctx, size)
		if err == nil && !bytes.Equal(r.SHA256, PatternSum("go", size)) {
			err = fmt.Errorf("they read something else: %+v", r)
		}
		received <- err
	}()
	sum := sha256.New()
	conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	if n, err := io.Copy(sum, conn); err != nil || n != size || !bytes.Equal(sum.Sum(nil), PatternSum("js", size)) {
		t.Errorf("read %d of %d bytes: %v", n, size, err)
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if err := <-received; err != nil {
		t.Error(err)
	}
	if r, err := js.Wait(ctx, "end"); err != nil || !r.End {
		t.Errorf("our end did not arrive: %+v, %v", r, err)
	}
	conn.Close()
	if r, err := js.Wait(ctx, "close"); err != nil || !r.Close || r.Error != "" {
		t.Errorf("our close did not arrive: %+v, %v", r, err)
	}
	select {
	case <-conn.Done():
	case <-ctx.Done():
		t.Error("the connection never ended")
	}
}

func TestJavaScriptDialsWarren(t *testing.T) {
	networks(t, func(t *testing.T, js *Peer, boot []string) {
		server := goNode(t, hyperdht.Config{Bootstrap: boot})
		l, err := server.Listen(t.Context(), hyperdht.ListenConfig{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var client Node
		js.Must("node", Args{"bootstrap": boot}, &client)
		for _, size := range []int64{bulk} {
			key := l.PublicKey()
			s, err := js.Dial(t.Context(), Args{"node": client.Node, "key": Hex(key[:])})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			conn, err := l.AcceptConn(ctx)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			t.Log(conn.Path())
			exchange(t, conn, s, size)
		}
	})
}

func TestWarrenDialsJavaScript(t *testing.T) {
	networks(t, func(t *testing.T, js *Peer, boot []string) {
		var node Node
		js.Must("node", Args{"bootstrap": boot}, &node)
		var server Server
		js.Must("listen", Args{"node": node.Node}, &server)
		client := goNode(t, hyperdht.Config{Bootstrap: boot})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		conn, err := client.Dial(ctx, hyperdht.PublicKey(server.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		t.Log(conn.Path())
		exchange(t, conn, js.Accept(ctx, server.Server), bulk)
	})
}

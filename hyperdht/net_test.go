package hyperdht

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"

	"github.com/warren-dht/warren/dhtrpc"
)

// loopbackNetwork starts a network of real sockets and returns its bootstrap
// list.
func loopbackNetwork(t testing.TB, size int) []string {
	t.Helper()
	local := netip.MustParseAddr("127.0.0.1")
	first, err := New(Config{Host: local, AnyPort: true, Bootstrap: NoBootstrap})
	if err != nil {
		t.Fatal(err)
	}
	port := first.RPC().LocalAddr().Port()
	first.Close()
	boot, err := Bootstrapper(netip.AddrPortFrom(local, port), Config{Host: local})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { boot.Close() })
	list := []string{netip.AddrPortFrom(local, port).String()}
	for range size - 1 {
		loopbackNode(t, Config{Bootstrap: list, Ephemeral: dhtrpc.Never, Firewalled: isFalse()})
	}
	return list
}

func loopbackNode(t testing.TB, cfg Config) *Node {
	t.Helper()
	cfg.Host, cfg.AnyPort = netip.MustParseAddr("127.0.0.1"), true
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return n
}

// Two ends of a connection through a real network behave as a net.Conn should.
func TestNetConn(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("network", func(t *testing.T) {
		boot := loopbackNetwork(t, 4)
		server := loopbackNode(t, Config{Bootstrap: boot})
		client := loopbackNode(t, Config{Bootstrap: boot})
		l, err := server.Listen(t.Context(), ListenConfig{})
		if err != nil {
			t.Fatal(err)
		}
		nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
			if c1, err = client.Dial(t.Context(), l.PublicKey()); err != nil {
				return nil, nil, nil, err
			}
			if c2, err = l.Accept(); err != nil {
				return nil, nil, nil, err
			}
			return c1, c2, func() { c1.Close(); c2.Close() }, nil
		})
	})
}

// A closed node leaves nothing behind, whatever it was doing.
func TestNothingOutlivesClose(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("network", func(t *testing.T) {
		boot := loopbackNetwork(t, 4)
		server, client := loopbackNode(t, Config{Bootstrap: boot}), loopbackNode(t, Config{Bootstrap: boot})
		l, err := server.Listen(t.Context(), ListenConfig{})
		if err != nil {
			t.Fatal(err)
		}
		open, err := client.Dial(t.Context(), l.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		nobody := make(chan error, 1)
		go func() {
			_, err := client.Dial(context.Background(), GenerateKeyPair().Public)
			nobody <- err
		}()
		server.Close()
		client.Close()
		if err := <-nobody; err == nil {
			t.Error("a dial to nobody succeeded")
		}
		if _, err := open.Read(make([]byte, 1)); err == nil {
			t.Error("a connection outlived its node")
		}
		if _, err := l.Accept(); err == nil {
			t.Error("a listener outlived its node")
		}
	})
}

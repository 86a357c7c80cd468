//go:build interop

package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/secretstream"
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
	exchangeAfter(t, conn, js, size, nil, false)
}

// exchangeAfter is exchange after they have read something else. If we end last
// that is when their end has come.
func exchangeAfter(t *testing.T, conn *hyperdht.Conn, js *Stream, size int64, before []byte, endLast bool) {
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
	read := make(chan struct{})
	go func() {
		_, err := io.CopyN(conn, Pattern("go"), size)
		if endLast {
			<-read
		}
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
		r, err := js.Receive(ctx, int64(len(before))+size)
		want := sha256.New()
		want.Write(before)
		io.CopyN(want, Pattern("go"), size)
		if err == nil && !bytes.Equal(r.SHA256, want.Sum(nil)) {
			err = fmt.Errorf("they read something else: %+v", r)
		}
		received <- err
	}()
	sum := sha256.New()
	conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	if n, err := io.Copy(sum, conn); err != nil || n != size || !bytes.Equal(sum.Sum(nil), PatternSum("js", size)) {
		t.Errorf("read %d of %d bytes on %v: %v", n, size, conn.Path(), err)
	}
	close(read)
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

// silentClients is for clients of the reference that say nothing until the test
// tells them to: Accept would wait for their keep-alive.
var silentClients = hyperdht.ListenConfig{AcceptUnproven: true}

// By default Accept waits until a client of the reference proves its key: its
// first word does, whenever it comes, or else its keep-alive. The log shows what
// that costs a protocol in which the server speaks first.
func TestJavaScriptClientProvesItself(t *testing.T) {
	js := StartJS(t, "hyperdht.js")
	boot := goTestnet(t, 8, nil)
	for _, c := range []struct {
		name   string
		speaks bool
		cfg    hyperdht.ListenConfig
	}{
		{"speaks first", true, hyperdht.ListenConfig{}},
		{"waits for the server", false, hyperdht.ListenConfig{}},
		{"waits for the server, unproven ones accepted", false, silentClients},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := goNode(t, hyperdht.Config{Bootstrap: boot}).Listen(t.Context(), c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var client Node
			js.Must("node", Args{"bootstrap": boot}, &client)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			key := l.PublicKey()
			start := time.Now()
			s, err := js.Dial(ctx, Args{"node": client.Node, "key": Hex(key[:])})
			if err != nil {
				t.Fatal(err)
			}
			if c.speaks {
				if err := s.Write(ctx, []byte("hello")); err != nil {
					t.Fatal(err)
				}
			}
			conn, err := l.AcceptConn(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			t.Logf("accepted %v after the dial began", time.Since(start))
			if conn.Proven() == c.cfg.AcceptUnproven {
				t.Errorf("proven: %v", conn.Proven())
			}
			if c.speaks {
				b := make([]byte, 5)
				if _, err := io.ReadFull(conn, b); err != nil || string(b) != "hello" {
					t.Errorf("read %q, %v", b, err)
				}
			}
			if _, err := conn.Write([]byte("welcome")); err != nil {
				t.Fatal(err)
			}
			if b, err := s.Read(ctx, 7); err != nil || string(b) != "welcome" {
				t.Errorf("they read %q, %v", b, err)
			}
			if err := conn.Send([]byte("x")); !errors.Is(err, secretstream.ErrInsecureDatagrams) {
				t.Errorf("a datagram to a peer without secret keys: %v", err)
			}
		})
	}
}

func TestJavaScriptDialsWarren(t *testing.T) {
	networks(t, func(t *testing.T, js *Peer, boot []string) {
		server := goNode(t, hyperdht.Config{Bootstrap: boot})
		l, err := server.Listen(t.Context(), silentClients)
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

// paths forces each way from one end to the other on loopback, as the
// reference's own tests do: by hiding what would make a shorter one possible.
func TestPathsWithJavaScript(t *testing.T) {
	js := StartJS(t, "hyperdht.js")
	boot := goTestnet(t, 8, nil)
	closed := Args{"bootstrap": boot, "quickFirewall": false, "ephemeral": true}
	ours := hyperdht.Config{Bootstrap: boot, Ephemeral: dhtrpc.Always, RPC: func(c *dhtrpc.Config) { c.NoQuickFirewall = true }}
	const size = 1 << 20
	for _, c := range []struct {
		name         string
		want         hyperdht.PathKind
		listen       hyperdht.ListenConfig
		dial         hyperdht.DialConfig
		server, conn Args // options of theirs
	}{
		{
			// The ways race; without the other one there is nothing to win.
			name: "lan", want: hyperdht.PathLAN,
			listen: hyperdht.ListenConfig{NoHolepunch: true, AcceptUnproven: true},
			dial:   hyperdht.DialConfig{Holepunch: func(hyperdht.PunchAttempt) bool { return false }, NoFastOpen: true},
			server: Args{"holepunch": false},
		},
		{
			name: "punched", want: hyperdht.PathPunched,
			listen: hyperdht.ListenConfig{HideLocalAddresses: true, AcceptUnproven: true},
			dial:   hyperdht.DialConfig{NoLAN: true},
			server: Args{"shareLocalAddress": false}, conn: Args{"localConnection": false},
		},
		{
			name: "punched in two rounds", want: hyperdht.PathPunched,
			listen: hyperdht.ListenConfig{HideLocalAddresses: true, AcceptUnproven: true},
			dial:   hyperdht.DialConfig{NoLAN: true, NoFastOpen: true},
			server: Args{"shareLocalAddress": false}, conn: Args{"localConnection": false, "fastOpen": false},
		},
	} {
		t.Run(c.name+"/to warren", func(t *testing.T) {
			server := goNode(t, ours)
			l, err := server.Listen(t.Context(), c.listen)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var client Node
			js.Must("node", closed, &client)
			key := l.PublicKey()
			s, err := js.Dial(t.Context(), Args{"node": client.Node, "key": Hex(key[:]), "options": c.conn})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			conn, err := l.AcceptConn(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if conn.Path().Kind != c.want {
				t.Errorf("path %v, want %v", conn.Path(), c.want)
			}
			exchange(t, conn, s, size)
		})
		t.Run(c.name+"/to javascript", func(t *testing.T) {
			var node Node
			js.Must("node", closed, &node)
			var server Server
			js.Must("listen", Args{"node": node.Node, "options": c.server}, &server)
			client := goNode(t, ours)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			conn, err := client.DialWith(ctx, hyperdht.PublicKey(server.PublicKey), c.dial)
			if err != nil {
				t.Fatal(err)
			}
			if conn.Path().Kind != c.want {
				t.Errorf("path %v, want %v", conn.Path(), c.want)
			}
			exchange(t, conn, js.Accept(ctx, server.Server), size)
		})
	}
}

// Five packets in a hundred are lost, repeated and reordered, each.
func TestBadLink(t *testing.T) {
	bad := Link{Loss: 0.05, Duplicate: 0.05, Reorder: 0.05, Delay: 5 * time.Millisecond}
	lossy := func() udp.Network { return Lossy(udp.Default, bad) }
	boot := goTestnet(t, 5, nil)
	const size = 16 << 20
	t.Run("warren to javascript", func(t *testing.T) {
		js := StartJS(t, "hyperdht.js")
		var node Node
		js.Must("node", Args{"bootstrap": boot}, &node)
		var server Server
		js.Must("listen", Args{"node": node.Node}, &server)
		client := goNode(t, hyperdht.Config{Bootstrap: boot, Network: lossy()})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		conn, err := client.Dial(ctx, hyperdht.PublicKey(server.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, conn, js.Accept(ctx, server.Server), size)
	})
	t.Run("javascript to warren", func(t *testing.T) {
		js := StartJS(t, "hyperdht.js")
		server := goNode(t, hyperdht.Config{Bootstrap: boot, Network: lossy()})
		l, err := server.Listen(t.Context(), silentClients)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var client Node
		js.Must("node", Args{"bootstrap": boot}, &client)
		key := l.PublicKey()
		s, err := js.Dial(t.Context(), Args{"node": client.Node, "key": Hex(key[:])})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.AcceptConn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, conn, s, size)
	})
	t.Run("warren to warren", func(t *testing.T) {
		server := goNode(t, hyperdht.Config{Bootstrap: boot})
		l, err := server.Listen(t.Context(), hyperdht.ListenConfig{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		sum := make(chan []byte, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				sum <- nil
				return
			}
			h := sha256.New()
			io.Copy(h, conn)
			conn.Close()
			sum <- h.Sum(nil)
		}()
		client := goNode(t, hyperdht.Config{Bootstrap: boot, Network: lossy()})
		conn, err := client.Dial(t.Context(), l.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(conn, Pattern("w"), size); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if got := <-sum; !bytes.Equal(got, PatternSum("w", size)) {
			t.Error("something else arrived")
		}
	})
}

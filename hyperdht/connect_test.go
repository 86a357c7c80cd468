package hyperdht

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/vnet"
)

// A world is a virtual internet with a HyperDHT network on public hosts. It
// lives in a synctest bubble.
type world struct {
	t     testing.TB
	net   *vnet.Network
	boot  []string
	nodes []*Node
}

// newWorld starts a network of that many persistent nodes, 20 ms apart.
func newWorld(t testing.TB, size int) *world {
	t.Helper()
	w := &world{t: t, net: vnet.New(1)}
	w.net.SetLink(vnet.Link{Latency: 10 * time.Millisecond, Hops: 10})
	first := w.net.Host()
	boot, err := Bootstrapper(netipPort(first.Addr(), DefaultPort), Config{Network: first})
	if err != nil {
		t.Fatal(err)
	}
	w.boot = []string{netipPort(first.Addr(), DefaultPort).String()}
	w.nodes = append(w.nodes, boot)
	for range size - 1 {
		w.nodes = append(w.nodes, w.start(w.net.Host(), Config{Ephemeral: dhtrpc.Never}))
	}
	for _, n := range w.nodes {
		if err := n.Ready(w.ctx(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(w.net.Close)
	return w
}

// start starts a node of the network on a host; it is closed with the world.
func (w *world) start(host *vnet.Host, cfg Config) *Node {
	w.t.Helper()
	cfg.Network, cfg.Bootstrap = host, w.boot
	n, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.nodes = append(w.nodes, n)
	return n
}

// ready starts a node and waits until it is ready.
func (w *world) ready(host *vnet.Host, cfg Config) *Node {
	w.t.Helper()
	n := w.start(host, cfg)
	w.nodes = w.nodes[:len(w.nodes)-1]
	w.t.Cleanup(func() { n.Close() })
	if err := n.Ready(w.ctx(time.Minute)); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) ctx(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	w.t.Cleanup(cancel)
	return ctx
}

// close ends everything, so that the bubble can.
func (w *world) close() {
	for _, n := range w.nodes {
		n.Close()
	}
	w.net.Close()
}

// listen listens on a node.
func (w *world) listen(n *Node, cfg ListenConfig) *Listener {
	w.t.Helper()
	l, err := n.Listen(w.ctx(time.Minute), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// accept accepts one connection in the background.
func (w *world) accept(l *Listener) <-chan *Conn {
	ch := make(chan *Conn, 1)
	go func() {
		defer close(ch)
		if c, err := l.AcceptConn(context.Background()); err == nil {
			ch <- c
		}
	}()
	return ch
}

// converse checks that two ends are connected to each other: keys, hash, data
// in both directions, half-close.
func converse(t testing.TB, a, b *Conn) {
	t.Helper()
	if a.RemotePublicKey() != b.PublicKey() || b.RemotePublicKey() != a.PublicKey() || a.HandshakeHash() != b.HandshakeHash() {
		t.Fatal("the two ends are not each other's")
	}
	data := make([]byte, 100_000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	send := func(c *Conn) {
		if _, err := c.Write(data); err != nil {
			t.Error(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
	}
	go send(a)
	go send(b)
	for _, c := range []*Conn{a, b} {
		c.SetReadDeadline(time.Now().Add(time.Minute))
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("read %d of %d bytes: %v", len(got), len(data), err)
		}
	}
	a.Close()
	b.Close()
}

// A house is a kind of place where a peer lives.
type house struct {
	name string
	host func(*vnet.Network) *vnet.Host
	cfg  Config
}

func isFalse() *bool { return new(bool) }

var houses = []house{
	{"open", func(n *vnet.Network) *vnet.Host { return n.Host() }, Config{Firewalled: isFalse()}},
	{"firewall", func(n *vnet.Network) *vnet.Host {
		return n.Firewall(vnet.Firewall{Filtering: vnet.Cone.Filtering}).Host()
	}, Config{}},
	{"cone", func(n *vnet.Network) *vnet.Host { return n.NAT(vnet.Cone).Host() }, Config{}},
	{"symmetric", func(n *vnet.Network) *vnet.Host { return n.NAT(vnet.Symmetric).Host() }, Config{}},
}

func TestConnectMatrix(t *testing.T) {
	for _, client := range houses {
		for _, server := range houses {
			t.Run(client.name+"-"+server.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, 12)
					defer w.close()
					s := w.ready(server.host(w.net), server.cfg)
					c := w.ready(client.host(w.net), client.cfg)
					defer s.Close()
					defer c.Close()
					l := w.listen(s, ListenConfig{})
					accepted := w.accept(l)
					start := time.Now()
					conn, err := c.Dial(w.ctx(time.Minute), l.PublicKey())
					took := time.Since(start)
					if client.name == "symmetric" && server.name == "symmetric" {
						if !errors.Is(err, ErrHolepunchDoubleRandom) || !errors.Is(err, ErrHolepunchAborted) {
							t.Fatalf("dial: %v", err)
						}
						l.Close()
						return
					}
					if err != nil {
						t.Fatalf("dial: %v", err)
					}
					other := <-accepted
					if other == nil {
						t.Fatal("nothing accepted")
					}
					t.Logf("%v, %v; accepted %v", took, conn.Path(), other.Path())
					want := PathPunched
					if client.name == "open" || server.name == "open" {
						want = PathDirect
					}
					if conn.Path().Kind != want || other.Path().Kind != want {
						t.Errorf("paths are %v and %v, want %v", conn.Path().Kind, other.Path().Kind, want)
					}
					converse(t, conn, other)
					l.Close()
				})
			})
		}
	}
}

func TestDialErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		c := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		defer c.Close()
		_, err := c.Dial(w.ctx(time.Minute), GenerateKeyPair().Public)
		var ce *ConnectError
		if !errors.Is(err, ErrPeerNotFound) || !errors.As(err, &ce) || ce.Asked == 0 {
			t.Errorf("a key that nobody announced: %v", err)
		}
		s := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		defer s.Close()
		l := w.listen(s, ListenConfig{Allow: func(context.Context, Incoming) error { return errors.New("no") }})
		_, err = c.Dial(w.ctx(time.Minute), l.PublicKey())
		if !errors.Is(err, ErrPeerConnectionFailed) || !errors.As(err, &ce) || len(ce.Handshakes) == 0 {
			t.Errorf("a peer that refuses: %v", err)
		}
		t.Log(err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err = c.Dial(ctx, l.PublicKey()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a dial out of time: %v", err)
		}
		l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after close: %v", err)
		}
		c.Close()
		if _, err := c.Dial(t.Context(), l.PublicKey()); !errors.Is(err, ErrClosed) {
			t.Errorf("dial on a closed node: %v", err)
		}
	})
}

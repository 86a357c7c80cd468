package natlab

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
)

// A peer is a node that is ready, of either implementation.
type peer interface {
	// listen accepts connections from now on and echoes what they bring.
	listen(context.Context, conditions) (hyperdht.PublicKey, error)
	// accepted waits for a connection; it has no echo.
	accepted(context.Context) (conn, error)
	dial(context.Context, hyperdht.PublicKey, conditions) (conn, error)
	close()
}

// A conn is a connection as one end has it. If dialling has failed only took is
// there.
type conn struct {
	took time.Duration     // of dialling
	path hyperdht.PathKind // 0: not told
	echo func(context.Context) error
	// until waits until the connection has a path of the kind; nil: not told.
	until func(context.Context, hyperdht.PathKind) error
}

// A warrenPeer is a node of ours, in this process.
type warrenPeer struct {
	node     *hyperdht.Node
	listener *hyperdht.Listener
}

func newWarrenPeer(ctx context.Context, h *Host, boot string, place Class) (*warrenPeer, error) {
	cfg := hyperdht.Config{Network: h, Bootstrap: []string{boot}}
	if place == Open {
		cfg.Firewalled = new(bool)
	}
	n, err := hyperdht.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := n.Ready(ctx); err != nil {
		n.Close()
		return nil, err
	}
	return &warrenPeer{node: n}, nil
}

func (p *warrenPeer) listen(ctx context.Context, cond conditions) (key hyperdht.PublicKey, err error) {
	p.listener, err = p.node.Listen(ctx, hyperdht.ListenConfig{
		RelayThrough: cond.serverRelay,
		AllowRelay:   func(hyperdht.Incoming) bool { return true },
	})
	if err != nil {
		return key, err
	}
	return p.listener.PublicKey(), nil
}

func (p *warrenPeer) accepted(ctx context.Context) (c conn, err error) {
	k, err := p.listener.AcceptConn(ctx)
	if err != nil {
		return c, err
	}
	go io.Copy(k, k)
	c.follow(k)
	return c, nil
}

// follow tells the path, and those that come.
func (c *conn) follow(k *hyperdht.Conn) {
	path := k.Path()
	c.path = path.Kind
	c.until = func(ctx context.Context, want hyperdht.PathKind) (err error) {
		for err == nil && path.Kind != want {
			path, err = k.NextPath(ctx, path)
		}
		return err
	}
}

func (p *warrenPeer) dial(ctx context.Context, key hyperdht.PublicKey, cond conditions) (c conn, err error) {
	start := time.Now()
	k, err := p.node.DialWith(ctx, key, hyperdht.DialConfig{NoFastOpen: cond.noFastOpen, RelayThrough: cond.clientRelay})
	c.took = time.Since(start)
	if err != nil {
		return c, err
	}
	c.follow(k)
	c.echo = func(ctx context.Context) error {
		d, _ := ctx.Deadline()
		k.SetDeadline(d)
		if _, err := k.Write([]byte{42}); err != nil {
			return err
		}
		var b [1]byte
		if _, err := io.ReadFull(k, b[:]); err != nil {
			return err
		}
		if b[0] != 42 {
			return fmt.Errorf("read %v", b)
		}
		return nil
	}
	return c, nil
}

func (p *warrenPeer) close() {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	p.node.Shutdown(gone)
}

// warrenDHT starts a public network of nodes of ours, one for each address of
// the host, and returns the first one, for bootstrapping.
func warrenDHT(t *testing.T, h *Host) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	boot := netip.AddrPortFrom(h.addrs[0], hyperdht.DefaultPort)
	for i, a := range h.addrs {
		var n *hyperdht.Node
		var err error
		if i == 0 {
			n, err = hyperdht.Bootstrapper(boot, hyperdht.Config{Network: h, Host: a})
		} else {
			n, err = hyperdht.New(hyperdht.Config{
				Network: h, Host: a, Bootstrap: []string{boot.String()}, Ephemeral: dhtrpc.Never, Firewalled: new(bool),
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		if err := n.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		if _, ok := n.RPC().ID(); !ok {
			t.Fatalf("%v is not persistent", a)
		}
	}
	return boot.String()
}

// jsDHT is warrenDHT with nodes of the reference.
func jsDHT(t *testing.T, h *Host) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := startScript(t, h)
	boot := netip.AddrPortFrom(h.addrs[0], hyperdht.DefaultPort).String()
	for i, a := range h.addrs {
		p := params{"host": a.String(), "port": hyperdht.DefaultPort, "ephemeral": false, "firewalled": false, "bootstrap": []string{boot}}
		if i == 0 {
			p["bootstrap"] = []string{}
		}
		if err := s.call(ctx, "node", p, nil); err != nil {
			t.Fatal(err)
		}
	}
	return boot
}

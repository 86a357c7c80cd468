package attacks

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
)

// A network is an honest DHT in this process.
type network struct {
	t     *testing.T
	nodes []*hyperdht.Node
	boot  []string
}

// newNetwork starts n persistent nodes, each in a /16 of its own, until the end
// of the test. Watch, if not nil, returns the network of node i.
func newNetwork(t *testing.T, n int, watch func(i int) udp.Network) *network {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w := &network{t: t}
	for i := range n {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{5, byte(i + 1), 0, 1}), hyperdht.DefaultPort)
		cfg := hyperdht.Config{Host: at.Addr(), Bootstrap: w.boot, Ephemeral: dhtrpc.Never, Firewalled: new(bool)}
		if watch != nil {
			cfg.Network = watch(i)
		}
		var node *hyperdht.Node
		var err error
		if i == 0 {
			cfg.Bootstrap = hyperdht.NoBootstrap
			node, err = hyperdht.Bootstrapper(at, cfg)
			w.boot = []string{at.String()}
		} else {
			node, err = hyperdht.New(cfg)
		}
		if err == nil {
			w.nodes = append(w.nodes, node)
			err = node.Ready(ctx)
		}
		if err != nil {
			t.Fatalf("node %d: %v", i, err)
		}
	}
	t.Cleanup(func() {
		var closing sync.WaitGroup
		for _, n := range w.nodes {
			closing.Go(func() { n.Close() })
		}
		closing.Wait()
	})
	return w
}

// join starts a client at a host until the end of the test.
func (w *network) join(host string, change func(*hyperdht.Config)) *hyperdht.Node {
	w.t.Helper()
	n, err := w.tryJoin(host, change)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { n.Close() })
	return n
}

// tryJoin is join for a client that the caller closes.
func (w *network) tryJoin(host string, change func(*hyperdht.Config)) (*hyperdht.Node, error) {
	cfg := hyperdht.Config{Host: netip.MustParseAddr(host), Bootstrap: w.boot, AnyPort: true, Ephemeral: dhtrpc.Always}
	if change != nil {
		change(&cfg)
	}
	n, err := hyperdht.New(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	if err := n.Ready(ctx); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// open is a client that strangers can reach.
func open(c *hyperdht.Config) { c.Firewalled = new(bool) }

// firewalled is a client that strangers cannot reach, as far as the DHT knows.
func firewalled(c *hyperdht.Config) {
	yes := true
	c.Firewalled = &yes
	c.RPC = func(r *dhtrpc.Config) { r.NoQuickFirewall = true }
}

// dial connects within the time.
func dial(t *testing.T, n *hyperdht.Node, key hyperdht.PublicKey, within time.Duration) (*hyperdht.Conn, error) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	kp := hyperdht.GenerateKeyPair()
	return n.DialWith(ctx, key, hyperdht.DialConfig{KeyPair: kp})
}

// mustDial is dial for connections that have to work.
func mustDial(t *testing.T, n *hyperdht.Node, key hyperdht.PublicKey) *hyperdht.Conn {
	t.Helper()
	c, err := dial(t, n, key, 15*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// echo sends bytes to an echoing server and returns how long they took to come
// back.
func echo(c *hyperdht.Conn, within time.Duration) (time.Duration, error) {
	want := make([]byte, 16)
	rand.Read(want)
	begun := time.Now()
	c.SetDeadline(begun.Add(within))
	defer c.SetDeadline(time.Time{})
	if _, err := c.Write(want); err != nil {
		return 0, err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		return 0, err
	}
	if !slices.Equal(got, want) {
		return 0, errors.New("other bytes came back")
	}
	return time.Since(begun), nil
}

// honest makes a number of clients one after the other, each from an address of
// its own, that connect to an echoing server. It returns the times of those that
// succeeded, in order of size. It gives up after 45 s.
func (w *network) honest(round, n int, key hyperdht.PublicKey, within time.Duration) (took []time.Duration, last error) {
	end := time.Now().Add(45 * time.Second)
	for i := range n {
		begun := time.Now()
		if begun.After(end) {
			break
		}
		client, err := w.tryJoin(fmt.Sprintf("7.%d.%d.1", round, i), nil)
		if err == nil {
			var c *hyperdht.Conn
			begun = time.Now()
			if c, err = dial(w.t, client, key, within); err == nil {
				_, err = echo(c, within)
				c.Close()
			}
			client.Close()
		}
		if err != nil {
			last = err
		} else {
			took = append(took, time.Since(begun))
		}
	}
	slices.Sort(took)
	return took, last
}

// median is the middle one of sorted times, or zero.
func median(sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)/2].Round(100 * time.Microsecond)
}

// forwarders are the DHT nodes through which a server can be reached.
func (w *network) forwarders(n *hyperdht.Node, key hyperdht.PublicKey) (at []netip.AddrPort) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	for p, err := range n.FindPeer(ctx, key) {
		if err == nil {
			at = append(at, p.From)
		}
	}
	if len(at) == 0 {
		w.t.Fatal("no DHT node knows the server")
	}
	return at
}

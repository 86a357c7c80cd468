package dhtrpc

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/vnet"
)

// A testNet is a virtual network with a bootstrapper, for a bubble.
type testNet struct {
	t     *testing.T
	net   *vnet.Network
	first *Node
	nodes []*Node // the first included
	born  map[*Node]time.Time
	link  func() vnet.Link // of hosts that join; nil: the default
}

// newTestNet makes a bootstrapper and size-1 persistent nodes that know it.
func newTestNet(t *testing.T, size int) *testNet {
	t.Helper()
	tn := &testNet{t: t, net: vnet.New(1), born: map[*Node]time.Time{}}
	h := tn.net.Host()
	n, err := Bootstrapper(netip.AddrPortFrom(h.Addr(), 49737), Config{Network: h})
	if err != nil {
		t.Fatal(err)
	}
	tn.first = n
	tn.nodes = append(tn.nodes, n)
	t.Cleanup(tn.close)
	tn.ready(n)
	for range size - 1 {
		tn.add(Config{Ephemeral: Never})
	}
	return tn
}

// add starts a node on a host of its own, with the first as bootstrap node
// unless the configuration names some, and waits until it is ready.
func (tn *testNet) add(cfg Config) *Node {
	tn.t.Helper()
	if cfg.Network == nil {
		cfg.Network = tn.net.Host()
	}
	if cfg.Bootstrap == nil {
		cfg.Bootstrap = []string{tn.addr().String()}
	}
	n, err := Listen(cfg)
	if err != nil {
		tn.t.Fatal(err)
	}
	tn.nodes = append(tn.nodes, n)
	tn.ready(n)
	return n
}

// addr is the bootstrapper's address.
func (tn *testNet) addr() netip.AddrPort { return tn.first.PublicAddr() }

func (tn *testNet) ready(n *Node) {
	tn.t.Helper()
	if err := n.Ready(tn.t.Context()); err != nil {
		tn.t.Fatal(err)
	}
}

func (tn *testNet) close() {
	for _, n := range tn.nodes {
		n.Close()
	}
	tn.net.Close()
}

// bubble runs f in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// The seed README's key-value store: a value committed to the closest nodes is
// found by a query from another node.
func TestKeyValueStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const put = 1
		tn := newTestNet(t, 1)
		for range 30 {
			values := map[ID]string{}
			tn.add(Config{Ephemeral: Never, Handler: HandlerFunc(func(r *Request) bool {
				if r.Command != put || r.Target == nil {
					return false
				}
				if r.Token != nil {
					values[*r.Target] = string(r.Value)
					r.Reply(nil)
					return true
				}
				if v, ok := values[*r.Target]; ok {
					r.Reply([]byte(v))
				} else {
					r.Reply(nil)
				}
				return true
			})})
		}
		ctx := context.Background()
		value := []byte("hello world")
		key := Hash(value)
		q := tn.nodes[3].Query(Message{Command: put, Target: &key, Value: value}, QueryOptions{Commit: true})
		if err := q.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if n := len(q.ClosestReplies()); n != K {
			t.Errorf("%d closest replies, want %d", n, K)
		}
		found := 0
		for r, err := range tn.nodes[17].Query(Message{Command: put, Target: &key}, QueryOptions{}).Replies(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if string(r.Value) == string(value) {
				found++
			}
		}
		if found < K-1 { // one of the closest may have asked, and does not ask itself
			t.Errorf("%d nodes hold the value", found)
		}
		for i, n := range tn.nodes {
			if _, ok := n.ID(); !ok {
				t.Errorf("node %d is not persistent: %v, firewalled %v", i, n.PublicAddr(), n.Firewalled())
			}
		}
	})
}

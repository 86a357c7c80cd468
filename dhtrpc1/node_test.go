package dhtrpc1

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A testNet is a virtual internet with nodes that keep values as those of the
// reference's README do.
type testNet struct {
	*vnet.Network
	t     *testing.T
	boot  *Node
	nodes []*Node
}

func newTestNet(t *testing.T, size int) *testNet {
	n := &testNet{Network: vnet.New(1), t: t}
	t.Cleanup(n.close)
	n.boot = n.listen(Config{Ephemeral: true})
	for range size {
		node := n.listen(Config{Bootstrap: n.bootstrap(), Handler: valueStore()})
		n.nodes = append(n.nodes, node)
	}
	for _, node := range n.nodes {
		if err := node.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func (n *testNet) bootstrap() []netip.AddrPort { return []netip.AddrPort{n.boot.LocalAddr()} }

func (n *testNet) listen(cfg Config) *Node {
	n.t.Helper()
	if cfg.Network == nil {
		host := n.Host()
		cfg.Network, cfg.Host = host, host.Addr()
	}
	node, err := Listen(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { node.Close() })
	return node
}

func (n *testNet) close() {
	for _, node := range n.nodes {
		node.Close()
	}
	n.boot.Close()
	n.Close()
}

// valueStore is the store of the README.
func valueStore() *Mux {
	var m Mux
	values := map[ID][]byte{}
	m.HandleClosest("values", func(r *Request) {
		if r.Value != nil {
			values[sha256.Sum256(r.Value)] = r.Value
		}
		r.Reply(nil)
	})
	m.HandleQuery("values", func(r *Request) { r.Reply(values[r.Target]) })
	m.HandleQuery("never", func(*Request) {})
	return &m
}

// bubble runs a test in virtual time.
func bubble(name string, t *testing.T, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestValueStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 100)
		client := n.listen(Config{Ephemeral: true, Bootstrap: n.bootstrap()})
		value := []byte("hello world")
		key := ID(sha256.Sum256(value))
		stored, err := Collect(client.Closest(t.Context(), Query{Command: "values", Target: key, Value: value}))
		if err != nil || len(stored) != K {
			t.Fatalf("stored at %d, %v", len(stored), err)
		}
		for i, r := range stored {
			if !r.Closest || r.From.ID == (ID{}) {
				t.Errorf("reply %d: %+v", i, r)
			}
		}
		for _, from := range []*Node{client, n.nodes[17], n.nodes[99]} {
			found := 0
			for r, err := range from.Query(t.Context(), Query{Command: "values", Target: key}) {
				if err != nil {
					t.Fatal(err)
				}
				if bytes.Equal(r.Value, value) {
					found++
				}
			}
			if found < K/2 {
				t.Errorf("%v found it at %d nodes", from.LocalAddr(), found)
			}
		}
		if got := n.boot.Contacts(); len(got) < 50 {
			t.Errorf("the bootstrap node knows %d", len(got))
		}
	})
}

// The replies of a closest query are those of its second part, of both if it is
// verbose.
func TestVerbose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 30)
		q := Query{Command: "values", Target: ID{7}, Verbose: true}
		all, err := Collect(n.nodes[0].Update(t.Context(), q))
		if err != nil {
			t.Fatal(err)
		}
		second := 0
		for i, r := range all {
			if r.Closest {
				second++
			} else if second > 0 {
				t.Errorf("reply %d of the first part comes after %d of the second", i, second)
			}
		}
		if second != K || len(all) <= 2*K-2 {
			t.Errorf("%d replies, %d of the second part", len(all), second)
		}
	})
}

func TestQueryOfGivenNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 30)
		asked := n.nodes[3]
		q := Query{Command: "values", Target: ID{7}, Nodes: []Peer{{Addr: asked.LocalAddr()}}}
		before := asked.Stats().Requests
		for _, closest := range []bool{false, true} {
			got, err := Collect(n.boot.search(t.Context(), q, closest))
			if err != nil || len(got) != 1 || got[0].From != (Contact{ID: asked.ID(), Addr: asked.LocalAddr()}) || got[0].Closest != closest {
				t.Errorf("closest %v: %+v, %v", closest, got, err)
			}
		}
		if n := asked.Stats().Requests - before; n != 3 {
			t.Errorf("%d requests, want one and two", n)
		}
	})
}

// TestQueryOfManyNodes: also more than a search of the network would bear in
// mind, each of them once.
func TestQueryOfManyNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 0)
		var q Query
		for range 300 {
			node := n.listen(Config{Handler: valueStore()})
			q.Nodes = append(q.Nodes, Peer{Addr: node.LocalAddr()}, Peer{Addr: node.LocalAddr()})
		}
		got, err := Collect(n.boot.Query(t.Context(), q))
		if err != nil || len(got) != 300 {
			t.Errorf("%d replies, %v", len(got), err)
		}
	})
}

// TestLoopPanics: a loop over replies that panics leaves nothing behind.
func TestLoopPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 30)
		func() {
			defer func() { recover() }()
			for range n.boot.Query(t.Context(), Query{Command: "values", Target: ID{7}}) {
				panic("in the loop")
			}
		}()
		n.boot.do(t.Context(), func(c *core, _ time.Time) {
			if c.queries != 0 || c.calls.Len() != 0 {
				t.Errorf("%d queries, %d requests under way", c.queries, c.calls.Len())
			}
		})
	})
}

func TestQueryErrors(t *testing.T) {
	bubble("nobody known", t, func(t *testing.T) {
		n := newTestNet(t, 0)
		n.boot.Ready(t.Context())
		if _, err := Collect(n.boot.Query(t.Context(), Query{Command: "x"})); !errors.Is(err, ErrNoNodes) {
			t.Error(err)
		}
	})
	bubble("nobody answers", t, func(t *testing.T) {
		n := newTestNet(t, 0)
		gone := netip.AddrPortFrom(n.Host().Addr(), 1)
		c := n.listen(Config{Bootstrap: []netip.AddrPort{gone}})
		start := time.Now()
		if err := c.Ready(t.Context()); err != nil || time.Since(start) != requestTimeout {
			t.Errorf("ready after %v, %v", time.Since(start), err)
		}
		if err := c.Bootstrap(t.Context()); !errors.Is(err, ErrNoNodes) {
			t.Error(err)
		}
		if _, err := c.Ping(t.Context(), gone); !errors.Is(err, ErrTimeout) {
			t.Error(err)
		}
	})
	bubble("only ephemeral nodes", t, func(t *testing.T) {
		n := newTestNet(t, 0)
		c := n.listen(Config{Bootstrap: n.bootstrap()})
		got, err := Collect(c.Closest(t.Context(), Query{Command: "x"}))
		if !errors.Is(err, ErrNoCloseNodes) || len(got) != 0 {
			t.Errorf("%v, %v", got, err)
		}
	})
	bubble("too large", t, func(t *testing.T) {
		n := newTestNet(t, 1)
		for _, size := range []int{1000, 1300} {
			_, err := Collect(n.nodes[0].Query(t.Context(), Query{Command: "x", Value: make([]byte, size)}))
			if errors.Is(err, ErrTooLarge) != (size > 1200) {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
	})
	bubble("bad addresses", t, func(t *testing.T) {
		n := newTestNet(t, 0)
		six := netip.MustParseAddrPort("[::1]:5")
		if _, err := Listen(Config{Network: n.Host(), Host: six.Addr()}); !errors.Is(err, ErrAddress) {
			t.Error(err)
		}
		mapped := netip.AddrPortFrom(netip.AddrFrom16(n.boot.LocalAddr().Addr().As16()), n.boot.LocalAddr().Port())
		c := n.listen(Config{Bootstrap: []netip.AddrPort{mapped}})
		if p, err := c.Ping(t.Context(), mapped); err != nil || p.Addr != n.boot.LocalAddr() {
			t.Errorf("%v, %v", p, err)
		}
		q := Query{Command: "x", Nodes: []Peer{{Addr: mapped}}}
		if _, err := Collect(c.Query(t.Context(), q)); err != nil {
			t.Error(err)
		}
		if _, err := n.boot.Ping(t.Context(), six); !errors.Is(err, ErrAddress) {
			t.Error(err)
		}
		if _, err := n.boot.Holepunch(t.Context(), six, n.boot.LocalAddr()); !errors.Is(err, ErrAddress) {
			t.Error(err)
		}
		if _, err := Collect(n.boot.Query(t.Context(), Query{Nodes: []Peer{{Addr: six}}})); !errors.Is(err, ErrAddress) {
			t.Error(err)
		}
		if _, err := Listen(Config{Bootstrap: []netip.AddrPort{six}}); !errors.Is(err, ErrAddress) {
			t.Error(err)
		}
	})
	bubble("canceled", t, func(t *testing.T) {
		n := newTestNet(t, 5)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := Collect(n.nodes[0].Query(ctx, Query{Command: "never", NoHolepunch: true}))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if s := n.nodes[0].Stats(); s.InFlight != 0 {
			t.Errorf("%d requests are left", s.InFlight)
		}
	})
	bubble("closed", t, func(t *testing.T) {
		n := newTestNet(t, 5)
		time.AfterFunc(300*time.Millisecond, func() { n.nodes[0].Close() })
		if _, err := Collect(n.nodes[0].Query(t.Context(), Query{Command: "never"})); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if _, err := n.nodes[0].Ping(t.Context(), n.boot.LocalAddr()); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if err := n.nodes[0].Ready(t.Context()); err != nil {
			t.Errorf("it had been ready: %v", err)
		}
		if got := n.nodes[0].Contacts(); got != nil {
			t.Errorf("contacts of a closed node: %v", got)
		}
	})
}

// While the caller takes no replies, nothing more is asked.
func TestBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 60)
		q := Query{Command: "values", Target: ID{9}, Concurrency: 3}
		c := n.nodes[0]
		replies := 0
		var sent uint64
		for _, err := range c.Query(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			replies++
			if replies > 4 {
				break
			}
			time.Sleep(500 * time.Millisecond)
			now := c.Stats().Sent
			time.Sleep(500 * time.Millisecond)
			sent = c.Stats().Sent - now
		}
		if sent > 2 { // what the others ask
			t.Errorf("%d datagrams within half a second in which nobody took replies", sent)
		}
		if s := c.Stats(); s.InFlight > 0 {
			t.Errorf("%d in flight after the end", s.InFlight)
		}
	})
}

func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 1)
		node := n.nodes[0]
		p, err := n.boot.Ping(t.Context(), node.LocalAddr())
		if want := (Pong{n.boot.LocalAddr(), node.LocalAddr(), node.ID(), true}); err != nil || p != want {
			t.Errorf("%+v, %v", p, err)
		}
		p, err = node.Ping(t.Context(), n.boot.LocalAddr())
		if want := (Pong{Observed: node.LocalAddr(), Addr: n.boot.LocalAddr()}); err != nil || p != want {
			t.Errorf("of an ephemeral node: %+v, %v", p, err)
		}
	})
}

// An unreachable node costs a query three seconds, the relayed ping included,
// or one timeout without hole punching (docs/spec/dht-rpc-v2.md §8).
func TestDeadNodes(t *testing.T) {
	for _, tt := range []struct {
		noHolepunch bool
		want        time.Duration
	}{{false, 2 * requestTimeout}, {true, requestTimeout}} {
		bubble(fmt.Sprint(tt.noHolepunch), t, func(t *testing.T) {
			n := newTestNet(t, 8)
			dead := n.nodes[5]
			dead.Close()
			c := n.listen(Config{Ephemeral: true, Bootstrap: []netip.AddrPort{n.nodes[0].LocalAddr()}})
			start := time.Now()
			q := Query{Command: "values", Target: dead.ID(), NoHolepunch: tt.noHolepunch}
			got, err := Collect(c.Query(t.Context(), q))
			if err != nil || len(got) != 7 {
				t.Errorf("%d replies, %v", len(got), err)
			}
			if d := time.Since(start); d < tt.want || d > tt.want+300*time.Millisecond {
				t.Errorf("it took %v", d)
			}
		})
	}
}

// A node that crashed leaves the tables of those who ask it.
func TestDeadNodeLeavesTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 8)
		n.nodes[5].Close()
		c := n.nodes[0]
		Collect(c.Query(t.Context(), Query{Command: "values", Target: n.nodes[5].ID()}))
		time.Sleep(2*tick + requestTimeout)
		for _, x := range c.Contacts() {
			if x.ID == n.nodes[5].ID() {
				t.Error("it is still there")
			}
		}
	})
}

func TestInjectedConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 3)
		host := n.Host()
		conn, err := host.Listen(netip.AddrPortFrom(host.Addr(), 4242))
		if err != nil {
			t.Fatal(err)
		}
		node := n.listen(Config{Conn: conn, Bootstrap: n.bootstrap()})
		if err := node.Ready(t.Context()); err != nil || node.LocalAddr().Port() != 4242 || len(node.Contacts()) != 3 {
			t.Errorf("%v, %v, %v", err, node.LocalAddr(), node.Contacts())
		}
		conn.Close() // in the node's back
		<-node.closing
		if _, err := node.Ping(t.Context(), n.boot.LocalAddr()); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

// A reply may come from another goroutine, and later.
func TestReplyLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 0)
		server := n.listen(Config{Handler: HandlerFunc(func(r *Request) {
			time.AfterFunc(time.Second, func() { r.Reply([]byte("later")) })
		})})
		q := Query{Command: "x", Nodes: []Peer{{Addr: server.LocalAddr()}}}
		got, err := Collect(n.boot.Query(t.Context(), q))
		if err != nil || len(got) != 1 || string(got[0].Value) != "later" {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// A flood of datagrams fills the inbox and no more; the node goes on.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, 3)
		node := n.nodes[0]
		v := loadVectors(t)
		for round := range 20 {
			var batch []udp.Datagram
			for i := range 4000 {
				b := v.BadInput[i%len(v.BadInput)].Hex
				batch = append(batch, udp.Datagram{Payload: b, Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, byte(round), byte(i >> 8), byte(i)}), 9)})
			}
			node.HandleBatch(nil, batch)
			synctest.Wait()
		}
		s := node.Stats()
		if s.Received < 80000 || s.Overflow == 0 || s.Malformed == 0 || s.Nodes > 20 {
			t.Errorf("%+v", s)
		}
		if _, err := n.nodes[1].Ping(t.Context(), node.LocalAddr()); err != nil {
			t.Error(err)
		}
	})
}

func TestResolveAddr(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"1.2.3.4:5", "1.2.3.4:5"},
		{"1.2.3.4", "1.2.3.4:3282"},
		{":10001", "127.0.0.1:10001"},
		{"10001", "127.0.0.1:10001"},
		{"localhost:10001", "127.0.0.1:10001"},
	} {
		if got, err := ResolveAddr(t.Context(), tt.in); err != nil || got.String() != tt.want {
			t.Errorf("%s: %v, %v", tt.in, got, err)
		}
	}
	for _, bad := range []string{"1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:x", "[::1]:5", "0.0.0.0:5", "255.255.255.255:1", "a:b:c"} {
		if got, err := ResolveAddr(t.Context(), bad); !errors.Is(err, ErrAddress) {
			t.Errorf("%s: %v, %v", bad, got, err)
		}
	}
}

//go:build interop

package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/dhtrpc1"
)

// v2Node is a node of v2.js.
type v2Node struct {
	Node      string
	Host      string
	Port      uint16
	ID        Hex
	Ephemeral bool
	Nodes     []struct {
		ID   Hex
		Host string
		Port uint16
	}
}

func (n v2Node) addr() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(n.Host), n.Port)
}

// v2Replies is what a query of v2.js collected.
type v2Replies struct {
	Replies []struct {
		Node struct {
			ID   Hex
			Host string
			Port uint16
		}
		Value Hex
	}
}

// newV1Node starts a Go node on loopback with the README's store and the
// commands of v2.js.
func newV1Node(t *testing.T, cfg dhtrpc1.Config) *dhtrpc1.Node {
	t.Helper()
	cfg.Host = netip.MustParseAddr("127.0.0.1")
	if cfg.Handler == nil {
		cfg.Handler = v1Handler()
	}
	n, err := dhtrpc1.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	if err := n.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func v1Handler() *dhtrpc1.Mux {
	var m dhtrpc1.Mux
	values := map[dhtrpc1.ID][]byte{}
	m.HandleUpdate("values", func(r *dhtrpc1.Request) {
		if r.Value != nil {
			values[sha256.Sum256(r.Value)] = r.Value
		}
		r.Reply(nil)
	})
	m.HandleQuery("values", func(r *dhtrpc1.Request) { r.Reply(values[r.Target]) })
	m.HandleQuery("echo", func(r *dhtrpc1.Request) { r.Reply(r.Value) })
	m.HandleUpdate("echo", func(r *dhtrpc1.Request) { r.Reply(r.Value) })
	m.HandleQuery("refuse", func(r *dhtrpc1.Request) { r.Drop() })
	return &m
}

// mixedV1 starts a bootstrap node of one side and count nodes of each.
func mixedV1(t *testing.T, js *Peer, goBoot bool, count int) (goNodes []*dhtrpc1.Node, jsNodes []v2Node) {
	t.Helper()
	var boot netip.AddrPort
	if goBoot {
		boot = newV1Node(t, dhtrpc1.Config{Ephemeral: true}).LocalAddr()
	} else {
		var b v2Node
		js.Must("node", Args{"ephemeral": true}, &b)
		boot = b.addr()
	}
	for range count {
		goNodes = append(goNodes, newV1Node(t, dhtrpc1.Config{Bootstrap: []netip.AddrPort{boot}}))
		var n v2Node
		js.Must("node", Args{"bootstrap": []string{boot.String()}}, &n)
		jsNodes = append(jsNodes, n)
	}
	return goNodes, jsNodes
}

// Networks of both kinds of nodes store and find from each side.
func TestDHTRPC1KeyValueStore(t *testing.T) {
	js := StartJS(t, "v2.js")
	for _, goBoot := range []bool{false, true} {
		t.Run(fmt.Sprintf("goBoot=%v", goBoot), func(t *testing.T) {
			goNodes, jsNodes := mixedV1(t, js, goBoot, 15)

			// Go stores.
			value := []byte("stored by Go, boot " + fmt.Sprint(goBoot))
			key := dhtrpc1.ID(sha256.Sum256(value))
			q := dhtrpc1.Query{Command: "values", Target: key, Value: value}
			stored, err := dhtrpc1.Collect(goNodes[2].Closest(t.Context(), q))
			if err != nil || len(stored) != dhtrpc1.K {
				t.Fatalf("stored at %d nodes, %v", len(stored), err)
			}
			findV1(t, js, goNodes[11], jsNodes[7], key, value)

			// JavaScript stores.
			value = []byte("stored by JavaScript, boot " + fmt.Sprint(goBoot))
			key = sha256.Sum256(value)
			var r v2Replies
			js.Must("update", Args{"node": jsNodes[4].Node, "command": "values", "target": Hex(key[:]), "value": Hex(value)}, &r)
			if len(r.Replies) != dhtrpc1.K {
				t.Fatalf("JavaScript stored at %d nodes", len(r.Replies))
			}
			findV1(t, js, goNodes[0], jsNodes[12], key, value)

			// Both kinds are in the tables of both kinds.
			var info v2Node
			js.Must("node.info", Args{"node": jsNodes[0].Node}, &info)
			known := map[netip.AddrPort]bool{}
			for _, n := range info.Nodes {
				known[netip.AddrPortFrom(netip.MustParseAddr(n.Host), n.Port)] = true
			}
			mine := map[netip.AddrPort]bool{}
			for _, c := range goNodes[0].Contacts() {
				mine[c.Addr] = true
			}
			var gos, jss, inGo int
			for i := range goNodes {
				if known[goNodes[i].LocalAddr()] {
					gos++
				}
				if known[jsNodes[i].addr()] {
					jss++
				}
				if mine[jsNodes[i].addr()] {
					inGo++
				}
			}
			if gos < 5 || jss < 5 || inGo < 5 {
				t.Errorf("the JavaScript node knows %d of Go and %d of its own, the Go node %d of JavaScript", gos, jss, inGo)
			}
		})
	}
}

// findV1 looks a value up from both sides; the nodes that have it are of both.
func findV1(t *testing.T, js *Peer, goNode *dhtrpc1.Node, jsNode v2Node, key dhtrpc1.ID, value []byte) {
	t.Helper()
	found := 0
	for r, err := range goNode.Query(t.Context(), dhtrpc1.Query{Command: "values", Target: key}) {
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(r.Value, value) {
			found++
		}
	}
	var r v2Replies
	js.Must("query", Args{"node": jsNode.Node, "command": "values", "target": Hex(key[:])}, &r)
	jsFound := 0
	for _, x := range r.Replies {
		if bytes.Equal(x.Value, value) {
			jsFound++
		}
	}
	if found < 15 || jsFound < 15 {
		t.Errorf("Go found the value at %d nodes, JavaScript at %d, want about %d", found, jsFound, dhtrpc1.K)
	}
}

func TestDHTRPC1PingAndQuery(t *testing.T) {
	js := StartJS(t, "v2.js")
	goNodes, jsNodes := mixedV1(t, js, true, 1)
	g, j := goNodes[0], jsNodes[0]

	p, err := g.Ping(t.Context(), j.addr())
	if err != nil || p.Observed != g.LocalAddr() || !p.HasID || !bytes.Equal(p.ID[:], j.ID) {
		t.Errorf("Go pings JavaScript: %+v, %v", p, err)
	}
	var pong struct {
		To, From struct {
			Host string
			Port uint16
			ID   Hex
		}
	}
	js.Must("ping", Args{"node": j.Node, "peer": g.LocalAddr().String()}, &pong)
	id := g.ID()
	if pong.To.Port != j.Port || !bytes.Equal(pong.From.ID, id[:]) {
		t.Errorf("JavaScript pings Go: %+v", pong)
	}

	for _, size := range []int{0, 1, 300, 900} {
		value := bytes.Repeat([]byte{0xc3}, size)
		q := dhtrpc1.Query{Command: "echo", Value: value, Nodes: []dhtrpc1.Peer{{Addr: j.addr()}}}
		got, err := dhtrpc1.Collect(g.Closest(t.Context(), q))
		if err != nil || len(got) != 1 || !bytes.Equal(got[0].Value, value) {
			t.Errorf("Go asks for an echo of %d bytes: %v, %v", size, got, err)
		}
		var r v2Replies
		js.Must("query", Args{"node": j.Node, "command": "echo", "target": Hex(make([]byte, 32)), "value": Hex(value),
			"opts": Args{"nodes": []Args{{"host": "127.0.0.1", "port": g.LocalAddr().Port()}}}}, &r)
		if len(r.Replies) != 1 || !bytes.Equal(r.Replies[0].Value, value) {
			t.Errorf("JavaScript asks for an echo of %d bytes: %+v", size, r)
		}
	}
	q := dhtrpc1.Query{Command: "refuse", Nodes: []dhtrpc1.Peer{{Addr: j.addr()}}}
	if _, err := dhtrpc1.Collect(g.Query(t.Context(), q)); err != dhtrpc1.ErrNoNodes {
		t.Errorf("a handler's error is silence: %v", err)
	}
}

// Hole punching with each part played by each side.
func TestDHTRPC1Holepunch(t *testing.T) {
	js := StartJS(t, "v2.js")
	goNodes, jsNodes := mixedV1(t, js, true, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, tt := range []struct {
		name     string
		peer     netip.AddrPort
		referrer netip.AddrPort
	}{
		{"Go to Go through JavaScript", goNodes[1].LocalAddr(), jsNodes[0].addr()},
		{"Go to JavaScript through Go", jsNodes[1].addr(), goNodes[2].LocalAddr()},
		{"Go to JavaScript through JavaScript", jsNodes[1].addr(), jsNodes[2].addr()},
	} {
		p, err := goNodes[0].Holepunch(ctx, tt.peer, tt.referrer)
		if err != nil || p.Addr != tt.peer || p.Observed != goNodes[0].LocalAddr() {
			t.Errorf("%s: %+v, %v", tt.name, p, err)
		}
	}
	for _, tt := range []struct {
		name     string
		peer     netip.AddrPort
		referrer netip.AddrPort
	}{
		{"JavaScript to JavaScript through Go", jsNodes[1].addr(), goNodes[2].LocalAddr()},
		{"JavaScript to Go through JavaScript", goNodes[1].LocalAddr(), jsNodes[2].addr()},
		{"JavaScript to Go through Go", goNodes[1].LocalAddr(), goNodes[2].LocalAddr()},
	} {
		err := js.Call(ctx, "holepunch", Args{"node": jsNodes[0].Node, "peer": tt.peer.String(), "referrer": tt.referrer.String()}, nil)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	relayed := goNodes[2].Stats().Relayed
	if relayed != 3 {
		t.Errorf("the Go referrer relayed %d pings", relayed)
	}
}

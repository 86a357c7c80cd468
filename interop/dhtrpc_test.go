//go:build interop

package interop

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/kad"
)

// The commands of dhtrpc.js.
const (
	rpcValues = iota
	rpcEcho
	rpcFail
	rpcSilent
	rpcToken
)

// rpcStore is the README's key-value store with the commands of dhtrpc.js.
type rpcStore map[dhtrpc.ID][]byte

func (s rpcStore) ServeRPC(r *dhtrpc.Request) bool {
	switch r.Command {
	case rpcValues:
		if r.Token != nil && r.Value != nil {
			s[sha256.Sum256(r.Value)] = bytes.Clone(r.Value)
			r.Reply(nil)
		} else if r.Target != nil {
			r.Reply(s[*r.Target])
		} else {
			r.Reply(nil)
		}
	case rpcEcho:
		r.Reply(r.Value)
	case rpcFail:
		r.Error(dhtrpc.ErrorCode(r.Value[0]))
	case rpcSilent:
	case rpcToken:
		held := byte(0)
		if r.Token != nil {
			held = 1
		}
		r.Reply([]byte{held})
	default:
		return false
	}
	return true
}

// A rpcMember is a Go node and what it stores.
type rpcMember struct {
	*dhtrpc.Node
	store rpcStore
}

func (m rpcMember) holds(value []byte) (held bool) {
	m.Do(func() { _, held = m.store[sha256.Sum256(value)] })
	return held
}

func newRPCNode(t *testing.T, cfg dhtrpc.Config) rpcMember {
	t.Helper()
	m := rpcMember{store: rpcStore{}}
	cfg.Host, cfg.Handler = localhost, m.store
	n, err := dhtrpc.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	if err := n.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Node = n
	return m
}

// newRPCNetwork starts persistent Go nodes; without a bootstrap list the first
// one is a bootstrapper.
func newRPCNetwork(t *testing.T, size int, bootstrap ...string) (nodes []rpcMember, list []string) {
	t.Helper()
	for len(nodes) < size {
		cfg := dhtrpc.Config{Ephemeral: dhtrpc.Never, Firewalled: new(bool), Bootstrap: bootstrap}
		if len(bootstrap) == 0 {
			probe := newRPCNode(t, dhtrpc.Config{}) // finds a free port
			at := probe.ServerConn().LocalAddr()
			probe.Close()
			cfg.Public, cfg.Port, cfg.ExactPort = at, at.Port(), true
			bootstrap = []string{at.String()}
		}
		nodes = append(nodes, newRPCNode(t, cfg))
	}
	return nodes, bootstrap
}

// newJSNetwork starts a JavaScript bootstrapper and size-1 persistent nodes.
func newJSNetwork(t *testing.T, js *Peer, size int) (net Testnet) {
	t.Helper()
	probe := newRPCNode(t, dhtrpc.Config{}) // finds a free port
	at := probe.ServerConn().LocalAddr()
	probe.Close()
	var first Node
	js.Must("bootstrapper", Args{"host": at.Addr().String(), "port": at.Port()}, &first)
	js.Must("network", Args{"size": size - 1, "bootstrap": []string{at.String()}}, &net)
	net.Nodes = append(net.Nodes, first)
	return net
}

func (n Node) addrPort() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(n.Host), n.Port)
}

// rpcReply is a reply as dhtrpc.js shows it.
type rpcReply struct {
	From, To    Addr
	ID, Token   Hex
	CloserNodes []Addr
	Error       int
	Value       Hex
}

func addrs(list []Addr) (out []netip.AddrPort) {
	for _, a := range list {
		out = append(out, netip.AddrPortFrom(netip.MustParseAddr(a.Host), a.Port))
	}
	return out
}

// closestOf sorts the members of a network by their distance to a target.
func closestOf(target dhtrpc.ID, members []netip.AddrPort, but netip.AddrPort) []netip.AddrPort {
	list := slices.DeleteFunc(slices.Clone(members), func(a netip.AddrPort) bool { return a == but })
	slices.SortFunc(list, func(a, b netip.AddrPort) int {
		return kad.Compare(target, dhtrpc.IDOf(a), dhtrpc.IDOf(b))
	})
	return list[:min(len(list), dhtrpc.K)]
}

// 32 JavaScript nodes bootstrapped on warren nodes, and 32 warren nodes
// bootstrapped on JavaScript ones, find each other; a search from either side
// gives the same closest nodes, which are the true ones; a value committed from
// either side is stored on nodes of both kinds and found from both.
func TestDHTRPCMixedNetworks(t *testing.T) {
	for name, start := range map[string]func(t *testing.T, js *Peer) ([]rpcMember, []Node){
		"JavaScript on warren": func(t *testing.T, js *Peer) ([]rpcMember, []Node) {
			nodes, list := newRPCNetwork(t, 8)
			var net Testnet
			js.Must("network", Args{"size": 32, "bootstrap": list}, &net)
			return nodes, net.Nodes
		},
		"warren on JavaScript": func(t *testing.T, js *Peer) ([]rpcMember, []Node) {
			net := newJSNetwork(t, js, 8)
			nodes, _ := newRPCNetwork(t, 32, net.Bootstrap...)
			return nodes, net.Nodes
		},
		"half and half": func(t *testing.T, js *Peer) ([]rpcMember, []Node) {
			nodes, list := newRPCNetwork(t, 16)
			var net Testnet
			js.Must("network", Args{"size": 16, "bootstrap": list}, &net)
			return nodes, net.Nodes
		},
	} {
		t.Run(name, func(t *testing.T) {
			js := StartJS(t, "dhtrpc.js")
			ours, theirs := start(t, js)
			var members []netip.AddrPort
			for _, n := range ours {
				id, ok := n.ID()
				at := n.ServerConn().LocalAddr()
				if !ok || id != dhtrpc.IDOf(at) {
					t.Fatalf("warren node %v has id %v %v", at, id, ok)
				}
				members = append(members, at)
			}
			for _, n := range theirs {
				if id := dhtrpc.IDOf(n.addrPort()); !bytes.Equal(n.ID, id[:]) {
					t.Fatalf("JavaScript node %v has id %v, want %v", n.addrPort(), n.ID, id)
				}
				members = append(members, n.addrPort())
			}

			for i := range 20 {
				target := dhtrpc.Hash(fmt.Appendf(nil, "target %d", i))
				us, them := ours[i%len(ours)], theirs[i%len(theirs)]
				// A node that has just come is not in everybody's table yet, and the
				// reference names by bucket, not by distance: an early search may
				// miss one of the twenty, a repeated one must not. A node that was late,
				// as one process of many nodes may be, is pinged again after a second.
				const retryPause = 500 * time.Millisecond
				want := closestOf(target, members, us.ServerConn().LocalAddr())
				for try := 1; ; try++ {
					q := us.FindNode(target, dhtrpc.QueryOptions{})
					if err := q.Run(t.Context()); err != nil {
						t.Fatal(err)
					}
					var got []netip.AddrPort
					for _, c := range q.Closest() {
						got = append(got, c.Addr)
					}
					if slices.Equal(got, want) {
						break
					}
					if try == 10 {
						t.Errorf("warren found %v, want %v", got, want)
						break
					}
					time.Sleep(retryPause)
				}
				want = closestOf(target, members, them.addrPort())
				for try := 1; ; try++ {
					var found struct{ ClosestNodes []Addr }
					js.Must("findNode", Args{"node": them.Node, "target": Hex(target[:])}, &found)
					got := addrs(found.ClosestNodes)
					if slices.Equal(got, want) {
						break
					}
					if try == 10 {
						t.Errorf("JavaScript found %v, want %v", got, want)
						break
					}
					time.Sleep(retryPause)
				}
			}

			for i, from := range []string{"warren", "JavaScript"} {
				value := fmt.Appendf(nil, "a value from %s", from)
				key := dhtrpc.ID(sha256.Sum256(value))
				if i == 0 {
					q := ours[1].Query(dhtrpc.Message{Command: rpcValues, Target: &key, Value: value}, dhtrpc.QueryOptions{Commit: true})
					if err := q.Run(t.Context()); err != nil {
						t.Fatal(err)
					}
				} else {
					js.Must("put", Args{"node": theirs[1].Node, "value": Hex(value)}, nil)
				}
				here, there := 0, 0
				for _, n := range ours {
					if n.holds(value) {
						here++
					}
				}
				for _, n := range theirs {
					var stored []Hex
					js.Must("node.stored", Args{"node": n.Node}, &stored)
					if slices.ContainsFunc(stored, func(h Hex) bool { return bytes.Equal(h, value) }) {
						there++
					}
				}
				if here == 0 || there == 0 || here+there != dhtrpc.K {
					t.Errorf("from %s: stored on %d warren and %d JavaScript nodes", from, here, there)
				}
				found := false
				for r, err := range ours[len(ours)-1].Query(dhtrpc.Message{Command: rpcValues, Target: &key}, dhtrpc.QueryOptions{}).Replies(t.Context()) {
					if err != nil {
						t.Fatal(err)
					}
					if found = bytes.Equal(r.Value, value); found {
						break
					}
				}
				if !found {
					t.Errorf("from %s: not found by warren", from)
				}
				var got struct{ Value Hex }
				js.Must("get", Args{"node": theirs[len(theirs)-1].Node, "key": Hex(key[:])}, &got)
				if !bytes.Equal(got.Value, value) {
					t.Errorf("from %s: JavaScript found %q", from, got.Value)
				}
			}
		})
	}
}

// Single requests in both directions.
func TestDHTRPCRequests(t *testing.T) {
	js := StartJS(t, "dhtrpc.js")
	ours, list := newRPCNetwork(t, 3)
	var net Testnet
	js.Must("network", Args{"size": 3, "bootstrap": list}, &net)
	us, them := ours[1], net.Nodes[1]
	here, there := us.ServerConn().LocalAddr(), them.addrPort()
	id := dhtrpc.IDOf(here)
	target := dhtrpc.Hash([]byte("target"))
	ctx := t.Context()

	// warren asks.
	if r, err := us.Ping(ctx, there, dhtrpc.WithSize(100)); err != nil || r.FromID == nil || *r.FromID != dhtrpc.IDOf(there) || r.To != here {
		t.Errorf("ping: %+v, %v", r, err)
	}
	if r, err := us.DelayedPing(ctx, there, 300*time.Millisecond); err != nil || r.Err() != nil || r.RTT < 300*time.Millisecond {
		t.Errorf("delayed ping: %+v, %v", r, err)
	}
	if r, err := us.PingNAT(ctx, there, here.Port()); err != nil || r.To != here {
		t.Errorf("NAT ping: %+v, %v", r, err)
	}
	r, err := us.Request(ctx, there, dhtrpc.Message{Command: rpcEcho, Target: &target, Value: []byte("hello")})
	if err != nil || string(r.Value) != "hello" || r.Token == nil || len(r.Closer()) == 0 {
		t.Errorf("echo: %+v, %v", r, err)
	}
	if r, err := us.Request(ctx, there, dhtrpc.Message{Command: rpcEcho, Value: []byte{}}); err != nil || r.Value == nil || len(r.Value) != 0 {
		t.Errorf("echo of nothing: %+v, %v", r, err)
	}
	if r, err := us.Request(ctx, there, dhtrpc.Message{Command: rpcToken, Token: r.Token}); err != nil || !bytes.Equal(r.Value, []byte{1}) {
		t.Errorf("token: %+v, %v", r, err)
	}
	if r, err := us.Request(ctx, there, dhtrpc.Message{Command: rpcToken, Token: new([32]byte)}); err != nil || !errors.Is(r.Err(), dhtrpc.InvalidToken) || r.Token == nil {
		t.Errorf("wrong token: %+v, %v", r, err)
	}
	if r, err := us.Request(ctx, there, dhtrpc.Message{Command: rpcFail, Value: []byte{42}}); err != nil || r.Error != 42 {
		t.Errorf("error: %+v, %v", r, err)
	}
	if r, err := us.Request(ctx, there, dhtrpc.Message{Command: 99, Target: &target}); err != nil || !errors.Is(r.Err(), dhtrpc.UnknownCommand) || len(r.Closer()) == 0 {
		t.Errorf("unknown command: %+v, %v", r, err)
	}
	if _, err := us.Request(ctx, there, dhtrpc.Message{Command: rpcSilent}, dhtrpc.NoRetry()); !errors.Is(err, dhtrpc.ErrTimeout) {
		t.Errorf("silence: %v", err)
	}

	// JavaScript asks.
	ask := func(method string, args Args) (r rpcReply) {
		t.Helper()
		args["node"], args["host"], args["port"] = them.Node, here.Addr().String(), here.Port()
		js.Must(method, args, &r)
		return r
	}
	if r := ask("ping", Args{"size": 100}); !bytes.Equal(r.ID, id[:]) || addrs([]Addr{r.To})[0] != there {
		t.Errorf("ping: %+v", r)
	}
	if r := ask("delayedPing", Args{"delayMs": 300}); r.Error != 0 {
		t.Errorf("delayed ping: %+v", r)
	}
	echo := ask("request", Args{"command": rpcEcho, "target": Hex(target[:]), "value": Hex("hello")})
	if string(echo.Value) != "hello" || len(echo.Token) != 32 || len(echo.CloserNodes) == 0 {
		t.Errorf("echo: %+v", echo)
	}
	if r := ask("request", Args{"command": rpcToken, "token": echo.Token}); !bytes.Equal(r.Value, []byte{1}) {
		t.Errorf("token: %+v", r)
	}
	if r := ask("request", Args{"command": rpcToken, "token": Hex(make([]byte, 32))}); r.Error != int(dhtrpc.InvalidToken) || len(r.Token) != 32 {
		t.Errorf("wrong token: %+v", r)
	}
	if r := ask("request", Args{"command": rpcFail, "value": Hex{42}}); r.Error != 42 {
		t.Errorf("error: %+v", r)
	}
	if r := ask("request", Args{"command": 99, "target": Hex(target[:])}); r.Error != int(dhtrpc.UnknownCommand) || len(r.CloserNodes) == 0 {
		t.Errorf("unknown command: %+v", r)
	}
}

// Nodes that start firewalled find out with the help of the other kind that
// they are not, and become persistent if they were told to.
func TestDHTRPCReachability(t *testing.T) {
	js := StartJS(t, "dhtrpc.js")
	_, list := newRPCNetwork(t, 6)
	var n Node
	js.Must("node", Args{"bootstrap": list, "ephemeral": false}, &n)
	if n.Firewalled || n.Ephemeral || n.ID == nil {
		t.Errorf("a JavaScript node among warren nodes: %+v", n)
	}

	net := newJSNetwork(t, js, 6)
	us := newRPCNode(t, dhtrpc.Config{Bootstrap: net.Bootstrap, Ephemeral: dhtrpc.Never})
	if us.Firewalled() || us.Ephemeral() {
		t.Errorf("a warren node among JavaScript nodes: firewalled %v, ephemeral %v", us.Firewalled(), us.Ephemeral())
	}
	us = newRPCNode(t, dhtrpc.Config{Bootstrap: net.Bootstrap})
	if us.Firewalled() || !us.Ephemeral() {
		t.Errorf("with the defaults: firewalled %v, ephemeral %v", us.Firewalled(), us.Ephemeral())
	}
}

// Nodes of the other kind that are gone leave the table, upon a hint.
func TestDHTRPCDownHints(t *testing.T) {
	js := StartJS(t, "dhtrpc.js")
	ours, list := newRPCNetwork(t, 6)
	var net Testnet
	js.Must("network", Args{"size": 6, "bootstrap": list}, &net)
	gone := ours[3].ServerConn().LocalAddr()
	ours[3].Close()
	id := dhtrpc.IDOf(gone)
	js.Must("findNode", Args{"node": net.Nodes[2].Node, "target": Hex(id[:])}, nil)
	us := newRPCNode(t, dhtrpc.Config{Bootstrap: list})
	if err := us.FindNode(id, dhtrpc.QueryOptions{}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	lists := func() (n int) {
		for _, m := range ours {
			if slices.ContainsFunc(m.Nodes(), func(c dhtrpc.Contact) bool { return c.Addr == gone }) && !m.Closed() {
				n++
			}
		}
		for _, m := range net.Nodes {
			var info Node
			js.Must("node.info", Args{"node": m.Node}, &info)
			if slices.Contains(addrs(info.Nodes), gone) {
				n++
			}
		}
		return n
	}
	for deadline := time.Now().Add(20 * time.Second); lists() > 0; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d nodes still list the dead one", lists())
		}
	}
}

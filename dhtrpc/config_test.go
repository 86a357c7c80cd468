package dhtrpc

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/vnet"
)

// Bad configuration is refused with the field's name.
func TestConfigErrors(t *testing.T) {
	for field, cfg := range map[string]Config{
		"Host":                     {Host: netip.MustParseAddr("::1")},
		"PortEnd":                  {Port: 5, PortEnd: 5},
		"ExactPort":                {ExactPort: true},
		"Bootstrap[1]":             {Bootstrap: []string{"a:1", "nonsense"}},
		"Bootstrap[0]":             {Bootstrap: []string{"a:0"}},
		"Nodes[0]":                 {Nodes: make([]netip.AddrPort, 1)},
		"Ephemeral":                {Ephemeral: 3},
		"Public":                   {Public: netip.MustParseAddrPort("0.0.0.0:1")},
		"Concurrency":              {Concurrency: -1},
		"MaxWindow":                {MaxWindow: -1},
		"MaxPingDelay":             {MaxPingDelay: -1},
		"MaxReply":                 {MaxReply: 10},
		"AdaptiveTimeout":          {AdaptiveTimeout: &AdaptiveTimeout{Min: 2, Max: 1}},
		"AdaptiveTimeout.Fallback": {AdaptiveTimeout: &AdaptiveTimeout{Fallback: []time.Duration{0}}},
	} {
		n, err := Listen(cfg)
		if err == nil {
			n.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), "dhtrpc: Config."+field+": ") {
			t.Errorf("%s: error %v", field, err)
		}
	}
	if _, _, err := (Config{MaxPingDelay: 1 << 32 * time.Millisecond}).settled(); err == nil {
		t.Error("a MaxPingDelay that does not fit a message")
	}
	for _, a := range []string{"0.0.0.0:5", "1.2.3.4:0", "[::1]:5", "224.0.0.1:5", "255.255.255.255:5"} {
		if n, err := Bootstrapper(netip.MustParseAddrPort(a), Config{}); err == nil {
			n.Close()
			t.Errorf("a bootstrapper at %s", a)
		}
	}
}

func TestParseBootstrap(t *testing.T) {
	for in, want := range map[string]bootstrapNode{
		"example.org:49737":          {host: "example.org", port: 49737},
		"1.2.3.4:1":                  {host: "1.2.3.4", port: 1},
		"88.99.3.86@node1.org:49737": {suggested: netip.MustParseAddr("88.99.3.86"), host: "node1.org", port: 49737},
	} {
		if got, err := parseBootstrap(in); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "host", "host:", ":1", "host:65536", "host:-1", "[::1]:5", "x@host:1", "::1@host:1", "1.2.3.4@:1"} {
		if got, err := parseBootstrap(in); err == nil {
			t.Errorf("%q was read as %+v", in, got)
		}
	}
}

// docs/spec/dht-rpc.md §5.2.
func TestPorts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := vnet.New(1)
		defer net.Close()
		h := net.Host()
		listen := func(cfg Config) *Node {
			t.Helper()
			cfg.Network = h
			n, err := Listen(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { n.Close() })
			return n
		}
		port := func(n *Node) uint16 { return n.ServerConn().LocalAddr().Port() }
		for want := uint16(41500); want < 41505; want++ {
			if p := port(listen(Config{Port: 41500})); p != want {
				t.Errorf("port %d, want %d", p, want)
			}
		}
		if p := port(listen(Config{Port: 41500})); p >= 41500 && p < 41505 || p == 0 {
			t.Errorf("port %d though the range is taken", p)
		}
		for want := uint16(65533); want != 0; want++ {
			if p := port(listen(Config{Port: 65533})); p != want {
				t.Errorf("port %d, want %d", p, want)
			}
		}
		if p := port(listen(Config{Port: 41500, PortEnd: 41501})); p == 41500 {
			t.Error("a taken port")
		}
		_, err := Listen(Config{Network: h, Port: 41500, ExactPort: true})
		if err == nil || !strings.Contains(err.Error(), "Config.Port: ") {
			t.Errorf("an exact port that is taken: %v", err)
		}
		n := listen(Config{Port: 41600, ExactPort: true})
		if port(n) != 41600 || n.ClientConn().LocalAddr().Port() == 41600 {
			t.Errorf("ports %v and %v", n.ServerConn().LocalAddr(), n.ClientConn().LocalAddr())
		}
		if n.Addr() != n.ClientConn().LocalAddr() {
			t.Error("a firewalled node's requests leave through the server socket")
		}
		if a := n.LocalAddr(); a != netip.AddrPortFrom(h.Addr(), 41600) {
			t.Errorf("local address %v", a)
		}
	})
}

// Bootstrap nodes by name: resolved once, the suggested address first.
func TestBootstrapNames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		var lookups atomic.Int32
		resolve := func(_ context.Context, host string) ([]netip.Addr, error) {
			lookups.Add(1)
			if host != "boot.example" {
				return nil, errors.New("no such name")
			}
			return []netip.Addr{netip.MustParseAddr("::1"), tn.addr().Addr()}, nil
		}
		_, dead := tn.deaf()
		for _, tc := range []struct {
			list    []string
			found   bool
			lookups int
		}{
			{[]string{"boot.example:49737"}, true, 1},
			{[]string{tn.addr().Addr().String() + "@wrong.example:49737"}, true, 0},
			{[]string{dead.Addr().String() + "@boot.example:49737"}, true, 1},
			{[]string{"wrong.example:49737", "boot.example:49737"}, true, 0},
		} {
			lookups.Store(0)
			n := tn.add(Config{Bootstrap: tc.list, Resolve: resolve})
			if found := len(n.Nodes()) > 0; found != tc.found {
				t.Errorf("%v: found %v", tc.list, found)
			}
			n.FindNode(ID{}, QueryOptions{}).Run(t.Context())
			if n := int(lookups.Load()); tc.lookups != 0 && n != tc.lookups {
				t.Errorf("%v: %d look-ups, want %d", tc.list, n, tc.lookups)
			}
			n.Close()
		}

		// A list of which nothing resolves is an error, and the node keeps trying:
		// it finds the network when the name appears.
		var up atomic.Bool
		n, err := Listen(Config{Network: tn.net.Host(), Bootstrap: []string{"late.example:49737", "wrong.example:1"}, Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			if up.Load() && host == "late.example" {
				return []netip.Addr{tn.addr().Addr()}, nil
			}
			return nil, errors.New("no such name")
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		if err := n.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "Config.Bootstrap: late.example: no such name") {
			t.Errorf("ready without a network: %v", err)
		}
		up.Store(true)
		time.Sleep(2 * time.Minute)
		if err := n.Ready(t.Context()); err != nil || len(n.Nodes()) == 0 {
			t.Errorf("%d nodes when the name had appeared, %v", len(n.Nodes()), err)
		}
	})
}

// A small network that knows itself does not depend on a resolver that hangs.
func TestBootstrapNamesThatHang(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 4)
		var saved []netip.AddrPort
		for _, n := range tn.nodes {
			saved = append(saved, n.PublicAddr())
		}
		began := time.Now()
		n := tn.add(Config{Nodes: saved, Bootstrap: []string{"slow.example:1"}, Ephemeral: Never,
			Resolve: func(ctx context.Context, _ string) ([]netip.Addr, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}})
		if d := time.Since(began); d > 4*time.Second || n.Ephemeral() {
			t.Errorf("ready after %v, ephemeral %v", d, n.Ephemeral())
		}
		began = time.Now()
		q := n.FindNode(ID{1}, QueryOptions{})
		if err := q.Run(t.Context()); err != nil || len(q.Closest()) != len(saved) {
			t.Errorf("%d closest nodes, %v", len(q.Closest()), err)
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("a query took %v", d)
		}

		// But one that is dead does: the name is waited for.
		_, dead := tn.deaf()
		lost := tn.add(Config{Nodes: []netip.AddrPort{dead}, Bootstrap: []string{"slow.example:49737"},
			Resolve: func(context.Context, string) ([]netip.Addr, error) {
				time.Sleep(2 * time.Second)
				return []netip.Addr{tn.addr().Addr()}, nil
			}})
		if len(lost.Nodes()) == 0 {
			t.Error("the name was not waited for")
		}
	})
}

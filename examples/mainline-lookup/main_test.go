package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/warren-dht/warren/mainline"
)

// network makes nodes on loopback and returns the first one's address.
func network(t *testing.T, n int) (nodes []*mainline.Node, bootstrap []string) {
	t.Helper()
	bootstrap = []string{}
	for range n {
		node, err := mainline.Listen(local(bootstrap))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Close() })
		if err := node.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if nodes = append(nodes, node); len(bootstrap) == 0 {
			bootstrap = []string{node.Addr().String()}
		}
	}
	return nodes, bootstrap
}

func local(bootstrap []string) mainline.Config {
	return mainline.Config{Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Bootstrap: bootstrap}
}

func TestLookup(t *testing.T) {
	nodes, bootstrap := network(t, 12)
	infoHash := mainline.FromHash([20]byte{1, 2, 3})
	for i, port := range []uint16{5001, 5002, 5003} {
		if _, err := nodes[i].Announce(t.Context(), infoHash, mainline.AnnounceOptions{Port: port}); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	if err := run(t.Context(), &out, local(bootstrap), infoHash, 0); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"127.0.0.1:5001 (from 127.0.0.1:", "127.0.0.1:5002", "127.0.0.1:5003", "3 peers; "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	out.Reset()
	if err := run(t.Context(), &out, local(bootstrap), infoHash, 1); err != nil || strings.Count(out.String(), "(from") != 1 {
		t.Errorf("one peer: %v\n%s", err, out.String())
	}
}

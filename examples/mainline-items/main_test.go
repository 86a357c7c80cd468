package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/warren-dht/warren/mainline"
)

func local(bootstrap []string) mainline.Config {
	return mainline.Config{Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Bootstrap: bootstrap}
}

func TestItems(t *testing.T) {
	bootstrap := []string{}
	for range 12 {
		node, err := mainline.Listen(local(bootstrap))
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close()
		if err := node.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(bootstrap) == 0 {
			bootstrap = []string{node.Addr().String()}
		}
	}
	key, err := privateKey("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, text := range []string{"Hello World!", "again"} {
		if err := run(t.Context(), &out, local(bootstrap), key, "foobar", text); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{
		"immutable: stored under e5f96f6f38320f0f33959cb4d3d656452117aadb at 8 nodes\nimmutable: found \"Hello World!\"\n" +
			"mutable: stored version 0 under 261cffe077fb97383c8577085ba2c4d7fb2dee1f at 8 nodes\nmutable: found version 0, \"Hello World!\"\n",
		"mutable: version 0 exists, 8 nodes agree\nmutable: stored version 1",
		"mutable: found version 1, \"again\"\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

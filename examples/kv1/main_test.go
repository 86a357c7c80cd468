package main

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

var wanted = regexp.MustCompile(`^stored b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9 at 20 nodes
found "hello world" at 127.0.0.1:\d+, reply \d+
$`)

func TestHundredNodes(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out, udp.Default, netip.MustParseAddr("127.0.0.1"), 100, []byte("hello world")); err != nil {
		t.Fatal(err)
	}
	if !wanted.MatchString(out.String()) {
		t.Errorf("it printed:\n%s", out.String())
	}
}

func TestVirtual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := vnet.New(1)
		defer n.Close()
		host := n.Host()
		var out strings.Builder
		if err := run(t.Context(), &out, host, host.Addr(), 40, []byte("another")); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), `found "another"`) {
			t.Errorf("it printed:\n%s", out.String())
		}
	})
}

package main

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

var wanted = regexp.MustCompile(`^stored b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9 at 20 nodes
found "hello world" at 127.0.0.1, reply \d+
$`)

func TestHundredNodes(t *testing.T) {
	host := netip.MustParseAddr("127.0.0.1")
	var out strings.Builder
	o := options{host: host, nodes: 100, put: []byte("hello world")}
	if err := run(t.Context(), &out, udp.Default, o); err != nil {
		t.Fatal(err)
	}
	if !wanted.MatchString(out.String()) {
		t.Errorf("it printed:\n%s", out.String())
	}
}

// A second and a third run join the network of the first.
func TestJoining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := vnet.New(1)
		defer n.Close()
		ctx, cancel := context.WithCancel(t.Context())
		first := n.Host()
		var out strings.Builder
		done := make(chan error)
		go func() {
			done <- run(ctx, &out, first, options{host: first.Addr(), port: 49737, nodes: 40, stay: true})
		}()
		time.Sleep(time.Minute)
		known := []string{netip.AddrPortFrom(first.Addr(), 49737).String()}
		if want := "40 nodes, bootstrap " + known[0] + "\n"; out.String() != want {
			t.Errorf("it printed %q, want %q", out.String(), want)
		}
		for _, o := range []options{{put: []byte("another")}, {get: sum("another")}, {get: sum("nothing")}} {
			h := n.Host()
			o.host, o.bootstrap = h.Addr(), known
			var out strings.Builder
			err := run(t.Context(), &out, h, o)
			if found := strings.Contains(out.String(), `found "another"`); found == (err != nil) {
				t.Errorf("%+v: %v, printed:\n%s", o, err, out.String())
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func sum(s string) []byte {
	key := sha256.Sum256([]byte(s))
	return key[:]
}

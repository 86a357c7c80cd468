package main

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/vnet"
)

var story = regexp.MustCompile(`^a network of 9 nodes, bootstrap [0-9.]+:49737
[0-9a-f]{8} said "hello [0-9a-f]{8}" to him, path (direct|lan)
a stranger was kept out: .*
$`)

func TestNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		internet := vnet.New(1)
		defer internet.Close()
		host := internet.Host()
		ctx, stop := context.WithCancel(t.Context())
		var out strings.Builder
		done := make(chan error, 1)
		go func() {
			done <- run(ctx, &out, host, options{host: host.Addr(), port: 49737, nodes: 8, stay: true})
		}()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if !story.MatchString(out.String()) {
			t.Errorf("it printed:\n%s", out.String())
		}

		// Another machine joins, knowing nothing but the address.
		node, err := hyperdht.New(hyperdht.Config{Network: internet.Host(), Bootstrap: []string{host.Addr().String() + ":49737"}})
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close()
		if _, err := node.ImmutablePut(t.Context(), []byte("it works"), hyperdht.PutOptions{}); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

package main

import (
	"context"
	"crypto/sha1"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/mainline"
	"github.com/warren-dht/warren/vnet"
)

// world makes a network of nodes, with as many info-hashes announced.
func world(t *testing.T, inet *vnet.Network, size, hashes int) (cfg mainline.Config, end func(), announced []string) {
	var nodes []*mainline.Node
	config := func() mainline.Config {
		h := inet.Host()
		cfg := mainline.Config{Network: h, Addrs: []netip.AddrPort{netip.AddrPortFrom(h.Addr(), 6881)}, Bootstrap: []string{}}
		if len(nodes) > 0 {
			cfg.Bootstrap = []string{nodes[0].Addr().String()}
		}
		return cfg
	}
	for range size {
		n, err := mainline.Listen(config())
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
		if err := n.Ready(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range hashes {
		h := mainline.FromHash(sha1.Sum([]byte{byte(i), byte(i >> 8)}))
		if _, err := nodes[i%size].Announce(context.Background(), h, mainline.AnnounceOptions{}); err != nil {
			t.Fatal(err)
		}
		announced = append(announced, h.String())
	}
	return config(), func() {
		for _, n := range nodes {
			n.Close()
		}
	}, announced
}

func TestCrawl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inet := vnet.New(1)
		defer inet.Close()
		cfg, end, announced := world(t, inet, 60, 100)
		defer end()
		var out strings.Builder
		if err := run(t.Context(), &out, cfg, 8, 1000); err != nil {
			t.Fatal(err)
		}
		// A node that nobody names is not met; each hash lies at eight nodes.
		found := 0
		for _, h := range announced {
			if strings.Contains(out.String(), h) {
				found++
			}
		}
		if found < 95 || !strings.Contains(out.String(), "0 do not know sample_infohashes\n") {
			t.Errorf("%d of %d were found:\n%s", found, len(announced), out.String())
		}
	})
}

// TestCrawlComesBack: a node with more than a sample shows the rest later.
func TestCrawlComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inet := vnet.New(1)
		defer inet.Close()
		cfg, end, _ := world(t, inet, 3, 60)
		defer end()
		var out strings.Builder
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute) // peers live 45
		defer cancel()
		if err := run(ctx, &out, cfg, 4, 55); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); strings.Count(out.String(), "\n") != 56 || d > 39*time.Minute {
			t.Errorf("after %v:\n%s", d, out.String())
		}
	})
}

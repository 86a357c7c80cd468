package main

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/examples/internal/printed"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/hyperdhttest"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// Two peers on open hosts, who could have a direct path, and two behind NATs that
// nobody punches through: both pairs talk through the relay.
func TestEverythingIsRelayed(t *testing.T) {
	for name, where := range map[string]func(*vnet.Network) udp.Network{
		"open":   func(n *vnet.Network) udp.Network { return n.Host() },
		"random": func(n *vnet.Network) udp.Network { return n.NAT(vnet.Symmetric).Host() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := hyperdhttest.StartVirtual(t, 8)
				ctx, stop := context.WithCancel(t.Context())
				start := func(cfg hyperdht.Config, o options) (out *printed.Buffer, key string, done chan error) {
					out, done = new(printed.Buffer), make(chan error, 1)
					go func() { done <- run(ctx, out, net.Config(cfg), o) }()
					time.Sleep(time.Minute)
					return out, regexp.MustCompile(`[0-9a-f]{64}`).FindString(out.String()), done
				}
				relayed, relayKey, relayDone := start(hyperdht.Config{}, options{serve: true})
				_, key, echoDone := start(hyperdht.Config{Network: where(net.Internet)}, options{echo: true, through: relayKey})

				var out printed.Buffer
				cfg := net.Config(hyperdht.Config{Network: where(net.Internet)})
				if err := run(ctx, &out, cfg, options{through: relayKey, key: key, say: "hello"}); err != nil {
					t.Error(err)
				}
				if want := "\"hello\" came back, path relayed\n"; out.String() != want {
					t.Errorf("it printed %q, want %q", &out, want)
				}
				stop()
				for _, done := range []chan error{relayDone, echoDone} {
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
				if !strings.Contains(relayed.String(), "\n1 pairs were relayed\n") {
					t.Errorf("the relay printed:\n%s", relayed)
				}
			})
		})
	}
}

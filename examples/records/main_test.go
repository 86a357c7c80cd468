package main

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/examples/internal/printed"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/hyperdhttest"
)

const (
	seed  = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	other = "101112131415161718191a1b1c1d1e1f000102030405060708090a0b0c0d0e0f"
)

// The owner of two records goes away. A mirror, which has no key, keeps one of
// them alive for days; the other is gone. Then the owner writes a new version.
func TestMirror(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := hyperdhttest.StartVirtual(t, 5)
		start := func(o options) (out *printed.Buffer, stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			out = new(printed.Buffer)
			done := make(chan error, 1)
			o.every = 12 * time.Hour
			go func() { done <- run(ctx, out, net.Config(hyperdht.Config{}), o) }()
			time.Sleep(time.Minute)
			return out, func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		put := func(o options) (key string) {
			out, stop := start(o)
			stop()
			found := regexp.MustCompile(`under ([0-9a-f]{64})\n`).FindStringSubmatch(out.String())
			if found == nil {
				t.Fatalf("the owner printed:\n%s", out)
			}
			return found[1]
		}
		kept := put(options{seed: seed, put: "on holiday"})
		lost := put(options{seed: other, put: "nobody cares"})
		mirrored, stop := start(options{mirror: kept})

		time.Sleep(60 * time.Hour)
		get := func(key, want string) {
			t.Helper()
			var out printed.Buffer
			err := run(t.Context(), &out, net.Config(hyperdht.Config{}), options{get: key})
			if want == "" && !errors.Is(err, hyperdht.ErrNotFound) || want != "" && err != nil || out.String() != want {
				t.Errorf("%q, %v, want %q", &out, err, want)
			}
		}
		get(kept, "version 0: on holiday\n")
		get(lost, "")

		put(options{seed: seed, put: "back again"})
		time.Sleep(24 * time.Hour)
		get(kept, "version 1: back again\n")
		stop()
		for _, want := range []string{"version 0: 5 nodes had it, 5 have it now\n", "version 1: 5 nodes had it, 5 have it now\n"} {
			if !strings.Contains(mirrored.String(), want) {
				t.Errorf("no %q in what the mirror printed:\n%s", want, mirrored)
			}
		}
	})
}

package main

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warren-dht/warren/mainline"
)

func local(bootstrap []string) mainline.Config {
	return mainline.Config{Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Bootstrap: bootstrap}
}

// firstLine cancels the run when something has been printed.
type firstLine struct {
	strings.Builder
	cancel context.CancelFunc
}

func (w *firstLine) Write(b []byte) (int, error) {
	defer w.cancel()
	return w.Builder.Write(b)
}

func TestAnnounce(t *testing.T) {
	bootstrap := []string{}
	var nodes []*mainline.Node
	for range 12 {
		node, err := mainline.Listen(local(bootstrap))
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close()
		if err := node.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if nodes = append(nodes, node); len(bootstrap) == 0 {
			bootstrap = []string{node.Addr().String()}
		}
	}
	file := filepath.Join(t.TempDir(), "state.json")
	infoHash := mainline.FromHash([20]byte{4, 5, 6})
	// The second time the state alone leads into the network.
	for i, cfg := range []mainline.Config{local(bootstrap), local([]string{})} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &firstLine{cancel: cancel}
		port := uint16(5001 + i)
		if err := run(ctx, out, cfg, file, infoHash, mainline.AnnounceOptions{Port: port}); err != nil {
			t.Fatal(err)
		}
		if want := "announced at 8 nodes, refused by 0, not answered by 0\n"; out.String() != want {
			t.Errorf("it printed %q, want %q", out.String(), want)
		}
		found := false
		for p := range nodes[5].Lookup(infoHash).Peers(t.Context()) {
			found = found || p.Addr.Port() == port
		}
		if !found {
			t.Errorf("port %d was not announced", port)
		}
	}
}

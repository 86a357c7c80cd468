package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/noise"
)

// peer starts a node of the network in this process.
func (n *testNetwork) peer() *hyperdht.Node {
	n.t.Helper()
	node, err := hyperdht.New(hyperdht.Config{Host: netip.MustParseAddr("127.0.0.1"), AnyPort: true, Bootstrap: []string{n.bootstrap}})
	if err == nil {
		n.t.Cleanup(func() { node.Close() })
		err = node.Ready(n.t.Context())
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return node
}

// However many connections of strangers break, and whatever serves them: nothing is
// logged above debug.
func TestBrokenConnectionsAreNotLogged(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 5)
	nobody := listenTCP(t)
	nobody.Close()
	node := n.peer()
	usual := map[string]bool{"listening": true, "ready": true, "close": true, "nat-update": true, "network-update": true, "persistent": true, "ephemeral": true}
	for name, mode := range map[string][]string{
		"echo": {"--echo"},
		"exec": {"--exec", "echo; exit 3"},
		"to":   {"--to", nobody.Addr().String()},
	} {
		d := n.start(append([]string{"listen", "--allow=any", "--log-level=debug"}, mode...)...)
		var l struct{ PublicKey string }
		d.event("listening", &l)
		key, err := noise.ParsePublicKey(l.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		const flood = 30
		for range flood {
			conn, err := node.Dial(t.Context(), key)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			io.WriteString(conn, "x")
			if name != "to" { // that one breaks it
				io.ReadFull(conn, make([]byte, 1))
				conn.Destroy(errors.New("enough"))
			}
			d.event("closed", nil)
		}
		d.stop()
		seen := 0
		for line := range strings.Lines(d.stderr.String()) {
			var record struct{ Level, Msg string }
			if err := json.Unmarshal([]byte(line), &record); err != nil {
				t.Fatalf("%s: %q: %v", name, line, err)
			}
			switch {
			case record.Level != "DEBUG" && !usual[record.Msg]:
				t.Errorf("%s: %s", name, line)
			case record.Msg == "connection failed" || record.Msg == "command ended":
				seen++
			}
		}
		if seen < flood/2 {
			t.Errorf("%s: only %d of %d broken connections at debug", name, seen, flood)
		}
	}
}

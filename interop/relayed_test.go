//go:build interop

package interop

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
	blind "github.com/warren-dht/warren/relay"
)

// A blind relay of either kind carries connections between ends of either kind
// that have no other way, and they move to a direct path when there is one.
func TestRelayedWithJavaScript(t *testing.T) {
	const size = 1 << 20
	ours := func(boot []string) hyperdht.Config {
		return hyperdht.Config{Bootstrap: boot, Ephemeral: dhtrpc.Always, RPC: func(c *dhtrpc.Config) { c.NoQuickFirewall = true }}
	}
	for _, relayKind := range []string{"warren's relay", "javascript's relay"} {
		for _, upgrade := range []bool{false, true} {
			name := relayKind + ", no other way"
			if upgrade {
				name = relayKind + ", then punched"
			}
			t.Run(name, func(t *testing.T) {
				js := StartJS(t, "hyperdht.js")
				boot := goTestnet(t, 8, nil)
				theirs := Args{"bootstrap": boot, "quickFirewall": false, "ephemeral": true}
				var key hyperdht.PublicKey
				if relayKind == "warren's relay" {
					open := false
					n := goNode(t, hyperdht.Config{Bootstrap: boot, Firewalled: &open})
					l, err := n.Listen(t.Context(), hyperdht.ListenConfig{HideLocalAddresses: true})
					if err != nil {
						t.Fatal(err)
					}
					r := n.ServeRelay(l, blind.Config{})
					defer r.Close()
					key = r.PublicKey()
				} else {
					var node Node
					js.Must("node", Args{"bootstrap": boot, "firewalled": false}, &node)
					var r Server
					js.Must("relay", Args{"node": node.Node}, &r)
					key = hyperdht.PublicKey(r.PublicKey)
				}

				t.Run("to javascript", func(t *testing.T) {
					var node Node
					js.Must("node", theirs, &node)
					var server Server
					options := Args{"shareLocalAddress": false}
					if !upgrade {
						options["holepunch"] = false
					}
					js.Must("listen", Args{"node": node.Node, "options": options}, &server)
					client := goNode(t, ours(boot))
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					defer cancel()
					conn, err := client.DialWith(ctx, hyperdht.PublicKey(server.PublicKey), hyperdht.DialConfig{
						NoLAN: true, RelayThrough: []hyperdht.PublicKey{key},
						NoFastOpen: upgrade,
						Holepunch:  func(hyperdht.PunchAttempt) bool { time.Sleep(2 * time.Second); return true },
					})
					if err != nil {
						t.Fatal(err)
					}
					s := js.Accept(ctx, server.Server)
					exchangeAfter(t, conn, s, size, talk(t, ctx, conn, s, upgrade), false)
				})
				t.Run("to warren", func(t *testing.T) {
					server := goNode(t, ours(boot))
					l, err := server.Listen(t.Context(), hyperdht.ListenConfig{
						HideLocalAddresses: true, NoHolepunch: !upgrade, AcceptUnproven: true,
						RelayThrough: []hyperdht.PublicKey{key},
						Holepunch:    func(hyperdht.PunchAttempt) bool { time.Sleep(2 * time.Second); return true },
					})
					if err != nil {
						t.Fatal(err)
					}
					defer l.Close()
					var client Node
					js.Must("node", theirs, &client)
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					defer cancel()
					pk := l.PublicKey()
					s, err := js.Dial(ctx, Args{"node": client.Node, "key": Hex(pk[:]), "options": Args{"localConnection": false, "fastOpen": false}})
					if err != nil {
						t.Fatal(err)
					}
					conn, err := l.AcceptConn(ctx)
					if err != nil {
						t.Fatal(err)
					}
					// A client of the reference's loses what it has under way if
					// we end first (docs/spec/hyperdht-connect.md §19, 29).
					exchangeAfter(t, conn, s, size, talk(t, ctx, conn, s, upgrade), !upgrade)
				})
			})
		}
	}
}

// talk checks that the connection starts relayed and, if it can, ends punched,
// while both ends talk. It returns what they have read.
func talk(t *testing.T, ctx context.Context, conn *hyperdht.Conn, js *Stream, upgrade bool) (said []byte) {
	t.Helper()
	if k := conn.Path().Kind; k != hyperdht.PathRelayed {
		t.Errorf("path %v at first, want relayed", conn.Path())
	}
	want := hyperdht.PathRelayed
	if upgrade {
		want = hyperdht.PathPunched
	}
	for {
		if _, err := conn.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if b, err := js.Read(ctx, 4); err != nil || string(b) != "ping" {
			t.Fatalf("%q, %v", b, err)
		}
		said = append(said, "ping"...)
		if err := js.Write(ctx, []byte("pong")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4)
		if _, err := io.ReadFull(conn, b); err != nil || string(b) != "pong" {
			t.Fatalf("%q, %v", b, err)
		}
		if conn.Path().Kind == want {
			return said
		}
		if ctx.Err() != nil {
			t.Fatalf("still on %v, want %v", conn.Path(), want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

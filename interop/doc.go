// Package interop holds conversations with the reference implementations: the
// real peers from npm, driven from Go tests. It is a module of its own, so that
// warren does not depend on it.
//
// Once:
//
//	cd interop && npm ci
//
// Then, every time (make test does both):
//
//	go test -tags interop ./...
//	go test -tags interop -run TestKeyValueStore -v .
//
// A test starts a script of js/ and talks to it in lines of JSON:
//
//	js := interop.StartJS(t, "hyperdht.js")
//	var net interop.Testnet
//	js.Must("testnet", interop.Args{"size": 4}, &net)        // net.Bootstrap
//	var server interop.Server
//	js.Must("listen", interop.Args{"node": net.Nodes[0].Node, "mode": "echo"}, &server)
//	conn := js.Accept(t.Context(), server.Server)            // after somebody has dialled server.PublicKey
//	report, err := conn.Wait(t.Context(), "close")
//
// Each script begins with what it is and ends with the table of its commands:
//
//   - hyperdht.js: networks, nodes, servers, connections, records, topics
//   - dhtrpc.js: dht-rpc nodes with the README's key-value store, requests, queries
//   - udx.js, secretstream.js: bare UDX streams (three versions of libudx), secret
//     streams over TCP, protomux channels
//   - mainline.js, v2.js: bittorrent-dht, and dht-rpc 2.3.0 with the wire of 1.x
//   - record.js: the vectors in testdata/, computed anew (TestVectorsAreTheReferences)
//   - lib.js: the loop, the handles and the commands on streams ("stream.send"
//     and so on); a new script needs little more than a call of its serve
//
// The general commands take and give hex for byte strings. Bulk data is not
// carried through JSON: both sides make and hash the same [Pattern].
//
// Bad links: [NewProxy] stands between two processes and [Lossy] under a Go
// node; both lose, repeat, reorder and delay by the same [Link].
//
// Tests here belong behind "//go:build interop". Without node, or without the
// packages, a test that calls StartJS is skipped, and fails where
// WARREN_TEST_ALL=1 says that everything has to run.
package interop

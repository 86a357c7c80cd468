package dhtrpc1

import (
	"net/netip"
	"testing"
	"time"
)

// BenchmarkServe answers requests of a node whose table is full, without sockets.
func BenchmarkServe(b *testing.B) {
	for _, bb := range []struct {
		name string
		req  request
	}{
		{"ping", request{command: commandPing}},
		{"find_node", request{command: commandFindNode, target: make([]byte, 32)}},
		{"query", request{command: "x", target: make([]byte, 32)}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			var t testing.T
			tc := newTestCore(&t, Config{})
			for i := range 100 {
				tc.heard(tc.now, Contact{ID: ID{byte(i * 2), 1}, Addr: testAddr(3, uint16(1000+i))}, true)
			}
			datagram := bb.req.Append(nil)
			from := netip.MustParseAddrPort("127.0.0.9:1000")
			b.ReportAllocs()
			for b.Loop() {
				tc.receive(tc.now, from, datagram)
				tc.out = tc.out[:0]
			}
		})
	}
}

// BenchmarkPing measures round trips over loopback, one at a time.
func BenchmarkPing(b *testing.B) {
	loopback := netip.MustParseAddr("127.0.0.1")
	var nodes [2]*Node
	for i := range nodes {
		n, err := Listen(Config{Host: loopback})
		if err != nil {
			b.Fatal(err)
		}
		defer n.Close()
		nodes[i] = n
	}
	start := time.Now()
	for b.Loop() {
		if _, err := nodes[0].Ping(b.Context(), nodes[1].LocalAddr()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "pings/s")
}

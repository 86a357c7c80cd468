package dhtrpc

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/warren-dht/warren/udp"
)

// benchCore is a persistent core with 200 nodes in its table.
func benchCore(tb testing.TB, h Handler) *core {
	tb.Helper()
	cfg, boot, err := Config{Handler: h}.settled()
	if err != nil {
		tb.Fatal(err)
	}
	c := newCore(cfg, boot, testStart)
	c.server = &nameConn{netip.MustParseAddrPort("127.0.0.1:41001")}
	c.client = &nameConn{netip.MustParseAddrPort("127.0.0.1:41002")}
	c.out = new(output)
	c.ephemeral = false
	for i := range 200 {
		c.addNode(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(10000+i)))
	}
	return c
}

// served returns a function that lets the core answer a datagram, which is
// another one each time if it has a target, as in workload W1.
func served(tb testing.TB, c *core, m *request) func() {
	m.to = c.server.LocalAddr()
	d := udp.Datagram{Payload: m.append(nil), Peer: netip.MustParseAddrPort("127.0.0.1:42001")}
	i := uint64(0)
	return func() {
		if m.target != nil {
			i++
			binary.LittleEndian.PutUint64(d.Payload[len(d.Payload)-32:], i*0x9e3779b97f4a7c15)
		}
		c.out.buf, c.out.items = c.out.buf[:0], c.out.items[:0]
		c.receive(c.server, &d)
		if len(c.out.items) != 1 {
			tb.Fatal("not answered")
		}
	}
}

// The requests of a server's day: the protocol's own, and one of an application
// that is answered with a value, a token and closer nodes.
func served3(tb testing.TB) map[string]func() {
	value := make([]byte, 100)
	h := HandlerFunc(func(r *Request) bool { r.Reply(value); return true })
	return map[string]func(){
		"ping":     served(tb, benchCore(tb, nil), &request{internal: true, command: cmdPing}),
		"findNode": served(tb, benchCore(tb, nil), &request{internal: true, command: cmdFindNode, target: new(ID)}),
		"command":  served(tb, benchCore(tb, h), &request{command: 7, target: new(ID)}),
	}
}

func BenchmarkServe(b *testing.B) {
	for name, f := range served3(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}

func TestServingDoesNotAllocate(t *testing.T) {
	for name, f := range served3(t) {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

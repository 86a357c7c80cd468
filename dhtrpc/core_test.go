package dhtrpc

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/udp"
)

// A nameConn is a socket of which only the name counts.
type nameConn struct{ addr netip.AddrPort }

func (c *nameConn) ReadBatch([]udp.Datagram) (int, error)  { panic("not a real socket") }
func (c *nameConn) WriteBatch([]udp.Datagram) (int, error) { panic("not a real socket") }
func (c *nameConn) LocalAddr() netip.AddrPort              { return c.addr }
func (c *nameConn) Close() error                           { return nil }

// A testCore is a core with a hand-driven peer: tc.in, tc.want, tc.idle.
type testCore struct {
	t  *testing.T
	c  *core
	at int // of the next datagram in out
}

var testStart = time.Unix(1_700_000_000, 0)

// newTestCore makes a core whose server socket is 127.0.0.1:41001 and whose
// luck is always the same.
func newTestCore(t *testing.T, cfg Config) *testCore {
	t.Helper()
	cfg.Rand = rand.NewPCG(1, 2)
	cfg, boot, err := cfg.settled()
	if err != nil {
		t.Fatal(err)
	}
	c := newCore(cfg, boot, testStart)
	c.node = &Node{core: c}
	c.server = &nameConn{netip.MustParseAddrPort("127.0.0.1:41001")}
	c.client = &nameConn{netip.MustParseAddrPort("127.0.0.1:41002")}
	c.out = new(output)
	c.events = nil
	return &testCore{t: t, c: c}
}

// in hands a datagram to the server socket, as Node.HandleBatch would.
func (tc *testCore) in(from string, payload []byte) {
	tc.inOn(tc.c.server, from, payload)
}

func (tc *testCore) inOn(conn udp.Conn, from string, payload []byte) {
	if len(payload) < 2 || payload[0] != requestByte && payload[0] != replyByte {
		return
	}
	// Bytes are borrowed: spoil them afterwards, as a socket would.
	p := bytes.Clone(payload)
	tc.c.receive(conn, &udp.Datagram{Payload: p, Peer: netip.MustParseAddrPort(from)})
	for i := range p {
		p[i] = 0xdb
	}
}

// out returns the datagrams sent since the last call.
func (tc *testCore) out() (list []udp.Datagram) {
	o := tc.c.out
	for ; tc.at < len(o.items); tc.at++ {
		it := o.items[tc.at]
		list = append(list, udp.Datagram{Payload: o.buf[it.start:it.end], Peer: it.peer, TTL: it.ttl})
	}
	return list
}

// wantRequest demands exactly one datagram, an internal request, and returns
// its transaction id.
func (tc *testCore) wantRequest(why string, command uint64, to string) uint16 {
	tc.t.Helper()
	list := tc.out()
	if len(list) != 1 {
		tc.t.Fatalf("%s: %d datagrams sent, want one", why, len(list))
	}
	m, err := parseRequest(list[0].Payload)
	if err != nil || !m.internal || m.command != command || list[0].Peer.String() != to {
		tc.t.Fatalf("%s: sent %+v to %v, want command %d to %s", why, m, list[0].Peer, command, to)
	}
	return m.tid
}

// idle demands that nothing was sent.
func (tc *testCore) idle(why string) {
	tc.t.Helper()
	if list := tc.out(); len(list) != 0 {
		tc.t.Fatalf("%s: sent %x to %v, want silence", why, list[0].Payload, list[0].Peer)
	}
}

// advance lets time pass, from deadline to deadline.
func (tc *testCore) advance(d time.Duration) {
	end := tc.c.now.Add(d)
	for {
		at, ok := tc.c.deadline()
		if !ok || at.After(end) {
			break
		}
		tc.c.now = at
		tc.c.advance()
	}
	tc.c.now = end
}

// took returns the events since the last call, of one kind or of all (0).
func (tc *testCore) took(kind EventKind) (n int) {
	for _, e := range tc.c.events {
		if kind == 0 || e.Kind == kind {
			n++
		}
	}
	tc.c.events = nil
	return n
}

// pong is a reply to a request from an address, with its id.
func pong(from string, tid uint16, persistent bool) []byte {
	a := netip.MustParseAddrPort(from)
	m := reply{tid: tid, to: netip.MustParseAddrPort("127.0.0.1:41001")}
	if persistent {
		id := IDOf(a)
		m.id = &id
	}
	return m.append(nil)
}

// hello is a PING of a persistent node.
func hello(from string) []byte {
	id := IDOf(netip.MustParseAddrPort(from))
	m := request{tid: 7, to: netip.MustParseAddrPort("127.0.0.1:41001"), id: &id, internal: true}
	return m.append(nil)
}

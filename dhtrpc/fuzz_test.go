package dhtrpc

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/warren-dht/warren/udp"
)

// seedDatagrams gives the fuzzer every recorded datagram.
func seedDatagrams(f *testing.F) {
	v := vec(f)
	for _, m := range v.Messages {
		f.Add([]byte(m.Hex))
	}
	for _, m := range v.Lenient {
		f.Add([]byte(m.Hex))
	}
	for _, m := range v.Malformed {
		f.Add([]byte(m.Hex))
	}
	for _, m := range v.Server {
		f.Add([]byte(m.Datagram))
	}
}

// What is read is written shorter or equal, and read again as the same.
func FuzzParseRequest(f *testing.F) {
	seedDatagrams(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseRequest(b)
		if err != nil {
			return
		}
		w := m.append(nil)
		if len(w) > len(b) || len(w) != m.size() {
			t.Fatalf("%x became %x, size %d", b, w, m.size())
		}
		m2, err := parseRequest(w)
		if err != nil || !bytes.Equal(m2.append(nil), w) || !bytes.Equal(m.value, m2.value) || (m.value == nil) != (m2.value == nil) {
			t.Fatalf("%x became %x: %v", b, w, err)
		}
	})
}

func FuzzParseReply(f *testing.F) {
	seedDatagrams(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseReply(b)
		if err != nil {
			return
		}
		w := m.append(nil)
		if len(w) > len(b) || len(w) != m.size() {
			t.Fatalf("%x became %x, size %d", b, w, m.size())
		}
		m2, err := parseReply(w)
		if err != nil || !bytes.Equal(m2.append(nil), w) || !bytes.Equal(m.value, m2.value) || m.closer.Len() != m2.closer.Len() {
			t.Fatalf("%x became %x: %v", b, w, err)
		}
		r := Reply{Value: m.value, Token: m.token, FromID: m.id, closer: m.closer}
		c := r.clone()
		if !bytes.Equal(c.Value, m.value) || (c.Value == nil) != (m.value == nil) || len(c.Closer()) != m.closer.Len() || (c.Token == nil) != (m.token == nil) {
			t.Fatal("a copied reply differs")
		}
	})
}

// Any datagram may come to a node that has a request in flight, from anybody.
// It answers with at most two datagrams, keeps its bounds, and lives.
func FuzzServe(f *testing.F) {
	v := vec(f)
	for _, m := range v.Server {
		f.Add([]byte(m.Datagram), true, []byte{93, 184, 216, 34})
		f.Add([]byte(m.Datagram), false, []byte{127, 0, 0, 1})
	}
	f.Fuzz(func(t *testing.T, b []byte, persistent bool, ip []byte) {
		if len(ip) != 4 || len(b) > MaxMessage {
			return
		}
		h := HandlerFunc(func(r *Request) bool { return r.Reply(r.Value) == nil })
		tc := newTestCore(t, Config{Handler: h})
		tc.c.ephemeral = !persistent
		tc.addKnown("127.0.0.1:5000", 3)
		a := tc.ask("127.0.0.1:5000", request{command: 7}, outgoing{}, 0, nil)
		tc.out()
		if len(b) >= 4 && b[0] == replyByte && len(b)%2 == 0 { // an answer, half of the time
			b = bytes.Clone(b)
			b[2], b[3] = byte(a.p.TID), byte(a.p.TID>>8)
		}
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip)), 5000)
		tc.in(from.String(), b)
		if n := len(tc.out()); n > 2 {
			t.Fatalf("%x draws %d datagrams", b, n)
		}
		tc.advance(11 * time.Second)
		if n := tc.c.calls.Len(); n != 0 {
			t.Fatalf("%d requests in flight eleven seconds later", n)
		}
		if a.calls != 1 {
			t.Fatalf("the request ended %d times", a.calls)
		}
		if tc.c.table.Len() > 2 || len(tc.c.delayed.list) != 0 || len(tc.c.proving) != 0 {
			t.Fatal("something stayed behind")
		}
	})
}

func FuzzParseBootstrap(f *testing.F) {
	for _, s := range []string{"a:1", "1.2.3.4@b:65535", "@:", "[::1]:5", "1.2.3.4:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := parseBootstrap(s)
		if err == nil && (b.host == "" || b.port == 0 || b.suggested.IsValid() && !b.suggested.Is4()) {
			t.Fatalf("%q was read as %+v", s, b)
		}
	})
}

func FuzzReadNodes(f *testing.F) {
	f.Add("1.2.3.4:5\n5.6.7.8:9\n")
	f.Fuzz(func(t *testing.T, s string) {
		nodes, err := ReadNodes(strings.NewReader(s))
		for _, a := range nodes {
			if err == nil && !addressable(a) {
				t.Fatalf("%q was read as %v", s, nodes)
			}
		}
	})
}

// A node claims exactly the datagrams that are its own.
func FuzzHandleBatch(f *testing.F) {
	f.Add([]byte{3, 4, 1, 0}, []byte{0})
	f.Add([]byte{0xff, 1}, []byte{0x13, 0})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		tc := newTestCore(t, Config{})
		tc.c.node.closed = true // take them, and do nothing
		rest := tc.c.node.HandleBatch(tc.c.server, []udp.Datagram{{Payload: a}, {Payload: b}})
		want := 0
		for _, p := range [][]byte{a, b} {
			if len(p) < 2 || p[0] != requestByte && p[0] != replyByte {
				want++
			}
		}
		if len(rest) != want {
			t.Fatalf("%d datagrams left of %x and %x", len(rest), a, b)
		}
	})
}

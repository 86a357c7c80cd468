package dhtrpc1

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// A testCore is a core with a hand-driven world: invented time, and datagrams
// that go in and are looked for one by one.
type testCore struct {
	*core
	t   *testing.T
	now time.Time
}

func newTestCore(t *testing.T, cfg Config) *testCore {
	t.Helper()
	if cfg.ID == (ID{}) {
		cfg.ID = ID{0: 0xff, 31: 1}
	}
	cfg.Concurrency = defaultConcurrency
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Rand = rand.NewPCG(1, 2)
	tc := &testCore{t: t, now: time.Unix(1_700_000_000, 0)}
	tc.core = newCore(&cfg, tc.now)
	tc.bootstrapped = true
	tc.deliver = func(r *Request) { tc.settle(tc.now, r) }
	return tc
}

// in hands a datagram to the core.
func (tc *testCore) in(from netip.AddrPort, b []byte) { tc.receive(tc.now, from, bytes.Clone(b)) }

// out takes the next datagram that the core sends.
func (tc *testCore) next(why string) (to netip.AddrPort, b []byte) {
	tc.t.Helper()
	if len(tc.out) == 0 {
		tc.t.Fatalf("%s: nothing is sent", why)
	}
	d := tc.out[0]
	tc.out = tc.out[1:]
	return d.Peer, d.Payload
}

// want takes the next datagram and compares it.
func (tc *testCore) want(why string, to netip.AddrPort, b []byte) {
	tc.t.Helper()
	gotTo, got := tc.next(why)
	if gotTo != to || !bytes.Equal(got, b) {
		tc.t.Fatalf("%s: sent\n%x to %v, want\n%x to %v", why, got, gotTo, b, to)
	}
}

// wantRequest takes the next datagram, which must be a request.
func (tc *testCore) wantRequest(why, command string, to netip.AddrPort) request {
	tc.t.Helper()
	gotTo, b := tc.next(why)
	if gotTo != to || !isRequest(b) {
		tc.t.Fatalf("%s: sent %x to %v, want %s to %v", why, b, gotTo, command, to)
	}
	r, err := parseRequest(b)
	if err != nil || r.command != command {
		tc.t.Fatalf("%s: sent %+v, %v, want %s", why, r, err, command)
	}
	return r
}

// idle says that nothing is sent.
func (tc *testCore) idle(why string) {
	tc.t.Helper()
	if len(tc.out) > 0 {
		tc.t.Fatalf("%s: sent %x to %v", why, tc.out[0].Payload, tc.out[0].Peer)
	}
}

// pass lets time go by, as the loop does.
func (tc *testCore) pass(d time.Duration) {
	for end := tc.now.Add(d); ; {
		next := tc.deadline()
		if next.After(end) {
			tc.now = end
			return
		}
		tc.now = next
		tc.advance(tc.now)
	}
}

func testAddr(host byte, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, host}), port)
}

func (tc *testCore) setSecrets(v vectorFile) {
	tc.secrets.Set(tc.now, [32]byte(v.Token.SecretPrevious), [32]byte(v.Token.SecretCurrent))
}

func TestTokenVectors(t *testing.T) {
	v := loadVectors(t)
	ip := netip.MustParseAddr(v.Token.Host)
	for _, x := range []struct{ secret, token []byte }{
		{v.Token.SecretCurrent, v.Token.TokenCurrent},
		{v.Token.SecretPrevious, v.Token.TokenPrevious},
	} {
		secret := [32]byte(x.secret)
		if got := hashToken(&secret, ip); !bytes.Equal(got[:], x.token) {
			t.Errorf("token %x, want %x", got, x.token)
		}
	}
}

// vectorMux has the handlers with which the vectors were recorded.
func vectorMux() *Mux {
	var m Mux
	m.HandleQuery("echo", func(r *Request) { r.Reply(r.Value) })
	m.HandleUpdate("echo", func(r *Request) { r.Reply([]byte("stored")) })
	m.HandleQuery("fail", func(r *Request) { r.Drop() })
	return &m
}

func TestServerExchangeVectors(t *testing.T) {
	v := loadVectors(t)
	x := v.ServerExchanges
	tc := newTestCore(t, Config{ID: ID(x.NodeID), Handler: vectorMux()})
	tc.setSecrets(v)
	from := testAddr(1, x.RequesterPort)
	if len(x.Exchanges) < 15 {
		t.Fatalf("%d exchanges", len(x.Exchanges))
	}
	for _, e := range x.Exchanges {
		tc.in(from, e.RequestHex)
		if e.ResponseHex == nil {
			tc.idle(e.Name)
			continue
		}
		tc.want(e.Name, from, e.ResponseHex)
		tc.idle(e.Name)
	}
}

// What crashes the reference is dropped; what it answers we answer
// (docs/spec/dht-rpc-v2.md §15).
func TestBadInputVectors(t *testing.T) {
	v := loadVectors(t)
	from := testAddr(1, 40785) // the port in the recorded pongs
	for _, b := range v.BadInput {
		tc := newTestCore(t, Config{ID: ID(v.ServerExchanges.NodeID), Handler: vectorMux()})
		tc.setSecrets(v)
		tc.in(from, b.Hex)
		if b.Outcome != "reply" {
			tc.idle(b.Name)
			if tc.stats.Malformed+tc.stats.Refused+tc.stats.Unexpected != 1 {
				t.Errorf("%s: not counted: %+v", b.Name, tc.stats)
			}
			if tc.table.Len() != 0 {
				t.Errorf("%s: entered the table", b.Name)
			}
			continue
		}
		if bytes.Contains(b.Hex, []byte{0x2a, 6}) { // forwardResponse
			to, err := parsePeer(b.Hex[len(b.Hex)-peerSize:])
			if err != nil {
				t.Fatal(err)
			}
			tc.want(b.Name, to, b.ReplyHex)
			continue
		}
		// The recorded list of nodes depends on what was in the table before.
		_, got := tc.next(b.Name)
		want, err := parseResponse(b.ReplyHex)
		if err != nil {
			t.Fatal(err)
		}
		r, err := parseResponse(got)
		if err != nil || r.tid != want.tid || !bytes.Equal(r.id, want.id) || !bytes.Equal(r.value, want.value) ||
			!bytes.Equal(r.token, want.token) || (r.nodes == nil) != (want.nodes == nil) {
			t.Errorf("%s: answered %+v, %v, want %+v", b.Name, r, err, want)
		}
		tc.idle(b.Name)
	}
	tc := newTestCore(t, Config{})
	tc.in(from, v.NotV4.V4Ping)
	tc.idle("a message of version 4")
}

func TestTokensExpire(t *testing.T) {
	var proven []bool
	tc := newTestCore(t, Config{Handler: HandlerFunc(func(r *Request) { proven = append(proven, r.Closest); r.Reply(nil) })})
	from := testAddr(2, 1000)
	ask := func(from netip.AddrPort, token []byte) []byte {
		t.Helper()
		r := request{tid: 5, command: "x", target: make([]byte, 32), token: token}
		tc.in(from, r.Append(nil))
		_, b := tc.next("every query is answered")
		res, err := parseResponse(b)
		if err != nil || res.token == nil {
			t.Fatalf("%+v, %v", res, err)
		}
		return res.token
	}
	token := ask(from, nil)
	ask(from, token)
	ask(testAddr(2, 2000), token) // bound to the address, not to the port
	ask(testAddr(3, 1000), token)
	tc.pass(4 * time.Minute)
	ask(from, token)
	tc.pass(5 * time.Minute)
	ask(from, token)
	tc.pass(time.Minute)
	ask(from, token)
	want := []bool{false, true, true, false, true, true, false}
	for i := range want {
		if proven[i] != want[i] {
			t.Errorf("request %d: proven is %v", i, proven[i])
		}
	}
}

func TestEphemeralTellsNoID(t *testing.T) {
	tc := newTestCore(t, Config{Ephemeral: true})
	from := testAddr(2, 1000)
	tc.in(from, (&request{tid: 1, command: commandPing}).Append(nil))
	_, b := tc.next("ephemeral nodes answer")
	if r, err := parseResponse(b); err != nil || r.id != nil || r.token == nil {
		t.Errorf("%+v, %v", r, err)
	}
	tc.ping(tc.now, from, func(time.Time, answer) {})
	if r := tc.wantRequest("ping", commandPing, from); r.id != nil {
		t.Errorf("the request has an id: %+v", r)
	}
}

func TestHolepunchFlowVectors(t *testing.T) {
	v := loadVectors(t)
	h := v.HolepunchFlow
	addrA, addrR, addrB := testAddr(1, h.APort), testAddr(1, h.RPort), testAddr(1, h.BPort)

	r := newTestCore(t, Config{ID: ID(h.RID)})
	r.in(addrA, h.Hops[0].Hex)
	r.want("R relays", addrB, h.Hops[1].Hex)
	r.idle("R does not answer")

	b := newTestCore(t, Config{ID: ID(h.BID)})
	b.setSecrets(v)
	b.in(addrR, h.Hops[1].Hex)
	b.want("B answers A", addrA, h.Hops[2].Hex)
	if b.table.Len() != 0 {
		t.Error("B has A's id with R's address in its table")
	}
	if r.table.Get(ID(h.AID)) == nil {
		t.Error("R has not heard of A")
	}

	a := newTestCore(t, Config{ID: ID(h.AID)})
	var got *answer
	x := &ask{to: addrR, relayed: true, done: func(_ time.Time, r answer) { got = &r }}
	x.req = request{command: commandPing, id: a.ownID(), forwardRequest: appendPeer(nil, addrB)}
	a.submit(a.now, x)
	sent := a.wantRequest("A asks R", commandPing, addrR)
	answer := bytes.Clone(h.Hops[2].Hex)
	binary.BigEndian.PutUint16(answer, sent.tid)
	a.in(addrB, answer)
	if got == nil || got.err != nil || got.from != addrB || !bytes.Equal(got.res.id, h.BID) {
		t.Errorf("A got %+v", got)
	}
}

func TestRelayRefusals(t *testing.T) {
	public := netip.MustParseAddrPort("8.8.8.8:1000")
	own := netip.MustParseAddrPort("9.9.9.9:49737")
	for _, tt := range []struct {
		name     string
		from, to string
		ok       bool
	}{
		{"public to public", "8.8.8.8:1000", "1.1.1.1:5", true},
		{"private to public", "192.168.1.1:1000", "1.1.1.1:5", true},
		{"private to private", "192.168.1.1:1000", "10.0.0.1:5", true},
		{"loopback to loopback", "127.0.0.1:1000", "127.0.0.2:5", true},
		{"public to private", "8.8.8.8:1000", "192.168.1.1:5", false},
		{"public to link-local", "8.8.8.8:1000", "169.254.1.1:5", false},
		{"public to loopback", "8.8.8.8:1000", "127.0.0.1:5", false},
		{"private to loopback", "10.0.0.1:1000", "127.0.0.1:5", false},
		{"to multicast", "8.8.8.8:1000", "224.0.0.1:5", false},
		{"to broadcast", "8.8.8.8:1000", "255.255.255.255:5", false},
		{"to nowhere", "8.8.8.8:1000", "0.0.0.0:5", false},
		{"to ourselves", "8.8.8.8:1000", own.String(), false},
	} {
		tc := newTestCore(t, Config{})
		tc.own = []netip.AddrPort{own}
		from, to := netip.MustParseAddrPort(tt.from), netip.MustParseAddrPort(tt.to)
		peer := appendPeer(nil, to)
		tc.in(from, (&request{tid: 9, command: commandPing, forwardRequest: peer}).Append(nil))
		tc.in(from, (&request{tid: 9, command: commandPing, forwardResponse: peer}).Append(nil))
		if !tt.ok {
			tc.idle(tt.name)
			if tc.stats.Refused != 2 {
				t.Errorf("%s: refused %d", tt.name, tc.stats.Refused)
			}
			continue
		}
		if got, _ := tc.next(tt.name); got != to {
			t.Errorf("%s: relayed to %v", tt.name, got)
		}
		if got, _ := tc.next(tt.name); got != to {
			t.Errorf("%s: answered to %v", tt.name, got)
		}
	}

	// A source may make us send so much, and all of them so much.
	tc := newTestCore(t, Config{})
	flood := func(from netip.AddrPort) int {
		tc.out = tc.out[:0]
		for range 10 * relayPerHost {
			tc.in(from, (&request{command: commandPing, forwardRequest: appendPeer(nil, public)}).Append(nil))
			tc.in(from, (&request{command: commandPing, forwardResponse: appendPeer(nil, public)}).Append(nil))
		}
		return len(tc.out)
	}
	if n := flood(testAddr(2, 1)); n != relayPerHost {
		t.Errorf("%d messages for one source", n)
	}
	total := relayPerHost
	for i := range 100 {
		total += flood(testAddr(byte(3+i), 1))
	}
	if total != relayTotal {
		t.Errorf("%d messages for all sources", total)
	}
	tc.pass(time.Second)
	if n := flood(testAddr(2, 1)); n != relayPerHost {
		t.Errorf("%d messages in the next second", n)
	}
}

// Responses are matched by id and address (docs/spec/dht-rpc-v2.md §14).
func TestResponseFromElsewhere(t *testing.T) {
	tc := newTestCore(t, Config{})
	to := testAddr(2, 1000)
	var got []answer
	tc.ping(tc.now, to, func(_ time.Time, a answer) { got = append(got, a) })
	r := tc.wantRequest("ping", commandPing, to)
	id := ID{1}
	res := (&response{tid: r.tid, id: id[:]}).Append(nil)
	tc.in(testAddr(3, 1000), res)
	tc.in(testAddr(2, 1001), res)
	wrong := (&response{tid: r.tid ^ 1, id: id[:]}).Append(nil)
	tc.in(to, wrong)
	if len(got) != 0 || tc.table.Len() != 0 || tc.stats.Unexpected != 3 {
		t.Fatalf("accepted: %+v, %d nodes, %+v", got, tc.table.Len(), tc.stats)
	}
	tc.in(to, res)
	tc.in(to, res)
	if len(got) != 1 || got[0].err != nil || tc.table.Len() != 1 || tc.stats.Unexpected != 4 {
		t.Fatalf("%+v, %d nodes, %+v", got, tc.table.Len(), tc.stats)
	}
}

// The queue moves on timeouts, too; that of the reference stalls
// (docs/spec/dht-rpc-v2.md §7).
func TestQueueMovesOnTimeouts(t *testing.T) {
	tc := newTestCore(t, Config{})
	failed := 0
	for i := range 40 {
		tc.ping(tc.now, testAddr(2, uint16(1000+i)), func(_ time.Time, a answer) {
			if a.err != ErrTimeout {
				t.Errorf("%v", a.err)
			}
			failed++
		})
	}
	for i, want := range []int{16, 32, 40} {
		if got := int(tc.stats.Sent); got != want {
			t.Errorf("round %d: %d sent, want %d", i, got, want)
		}
		tc.pass(requestTimeout)
	}
	if failed != 40 || tc.calls.Len() != 0 || tc.queue != nil {
		t.Errorf("%d failed, %d in flight, %d queued", failed, tc.calls.Len(), len(tc.queue))
	}
}

func TestQueueIsBounded(t *testing.T) {
	tc := newTestCore(t, Config{})
	busy := 0
	for range maxQueue + defaultConcurrency + 10 {
		tc.ping(tc.now, testAddr(2, 1000), func(_ time.Time, a answer) {
			if a.err == ErrBusy {
				busy++
			}
		})
	}
	if busy != 10 {
		t.Errorf("%d were refused", busy)
	}
}

// A handler that never replies costs a place for 30 s, and there are only so
// many.
func TestSilentHandlerIsBounded(t *testing.T) {
	var kept []*Request
	tc := newTestCore(t, Config{Handler: HandlerFunc(func(r *Request) { kept = append(kept, r) })})
	req := (&request{tid: 1, command: "x", target: make([]byte, 32)}).Append(nil)
	for range maxOpen + 100 {
		tc.in(testAddr(2, 1000), req)
	}
	if len(kept) != maxOpen || tc.stats.Refused != 100 {
		t.Fatalf("%d handed out, %d refused", len(kept), tc.stats.Refused)
	}
	kept[0].Reply([]byte("late, but in time"))
	kept[0].Reply([]byte("twice"))
	kept[1].Drop()
	if _, b := tc.next("reply"); !bytes.Contains(b, []byte("in time")) {
		t.Errorf("sent %x", b)
	}
	tc.idle("one reply each")
	if tc.open != maxOpen-2 {
		t.Errorf("%d open", tc.open)
	}
	tc.pass(openTimeout + tick)
	kept[2].Reply([]byte("too late"))
	tc.idle("after the time")
	if tc.open != 0 || len(tc.unanswered) != 0 {
		t.Errorf("%d open, %d listed", tc.open, len(tc.unanswered))
	}
}

// A value takes the place of nodes, never more than a datagram.
func TestReplySize(t *testing.T) {
	var size int
	tc := newTestCore(t, Config{Handler: HandlerFunc(func(r *Request) {
		if err := r.Reply(make([]byte, size)); (err != nil) != (size > maxReply) {
			t.Errorf("Reply of %d bytes: %v", size, err)
		}
	})})
	for i := range 40 {
		tc.heard(tc.now, Contact{ID: ID{byte(i * 6), 1}, Addr: testAddr(3, uint16(1000+i))}, true)
	}
	tc.out = nil
	for _, tt := range []struct{ size, nodes int }{{0, 20}, {364, 20}, {365, 19}, {1000, 3}, {maxReply, 0}, {maxReply + 1, -1}} {
		size = tt.size
		tc.in(testAddr(2, 1), (&request{command: "x", target: make([]byte, 32)}).Append(nil))
		if tt.nodes < 0 {
			tc.idle("too large")
			continue
		}
		_, b := tc.next("reply")
		r, err := parseResponse(b)
		if err != nil || len(b) > MaxDatagram || len(r.value) != tt.size || len(r.nodes) != tt.nodes*nodeSize {
			t.Errorf("%d bytes: datagram of %d with %d nodes, %v", tt.size, len(b), len(r.nodes)/nodeSize, err)
		}
	}
}

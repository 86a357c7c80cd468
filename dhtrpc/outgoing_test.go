package dhtrpc

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/compact"
)

// An ask is a request under test and what became of it.
type ask struct {
	p     *inflight
	calls int
	reply Reply
	err   error
}

func (tc *testCore) ask(to string, m request, o outgoing, retries int, g *requests) *ask {
	tc.t.Helper()
	a := new(ask)
	o.to = netip.MustParseAddrPort(to)
	o.done = func(r *Reply, err error) {
		a.calls++
		if a.err = err; r != nil {
			a.reply = r.clone()
		}
	}
	p, err := tc.c.request(&m, o, retries, g)
	if err != nil {
		tc.t.Fatal(err)
	}
	a.p = p
	return a
}

const peer = "127.0.0.1:5000"

// Retries+1 transmissions of the same bytes, a second apart, then a timeout.
// docs/spec/dht-rpc.md §5.3.
func TestRetransmission(t *testing.T) {
	tc := newTestCore(t, Config{})
	a := tc.ask(peer, request{command: 7, value: []byte("x")}, outgoing{ttl: 3}, 3, nil)
	first := bytes.Clone(tc.out()[0].Payload)
	for i := range 3 {
		tc.advance(999 * time.Millisecond)
		tc.idle("before the second is over")
		tc.advance(time.Millisecond)
		sent := tc.out()
		if len(sent) != 1 || !bytes.Equal(sent[0].Payload, first) || sent[0].TTL != 3 {
			t.Fatalf("retransmission %d: %d datagrams", i+1, len(sent))
		}
	}
	tc.advance(999 * time.Millisecond)
	if a.calls != 0 {
		t.Fatal("ended before the last second was over")
	}
	tc.advance(time.Millisecond)
	if a.calls != 1 || !errors.Is(a.err, ErrTimeout) {
		t.Errorf("%d calls, error %v", a.calls, a.err)
	}
	if s := tc.c.stats.Requests; s.Total != 1 || s.Retries != 3 || s.Timeouts != 1 || s.Responses != 0 || tc.c.calls.Len() != 0 {
		t.Errorf("statistics %+v, %d in flight", s, tc.c.calls.Len())
	}
	if s := tc.c.stats.User; s.Tx != 1 || s.Timeouts != 1 || s.Retries != 3 {
		t.Errorf("statistics of user commands %+v", s)
	}
	tc.advance(time.Minute)
	for _, d := range tc.out() {
		if d.Peer.String() == peer {
			t.Fatal("transmitted after its end")
		}
	}
}

// A request whose destination has an id evicts it; others do not.
func TestTimeoutEvicts(t *testing.T) {
	for _, withID := range []bool{true, false} {
		tc := newTestCore(t, Config{})
		tc.addKnown(peer, 1)
		o := outgoing{}
		if withID {
			o.id, o.hasID = IDOf(netip.MustParseAddrPort(peer)), true
		}
		tc.ask(peer, request{command: 7}, o, 0, nil)
		tc.advance(time.Second)
		if evicted := tc.c.table.Len() == 0; evicted != withID {
			t.Errorf("with id %v: evicted %v", withID, evicted)
		}
	}
}

// Replies are matched by transaction id: from anywhere for a command of the
// application, which may be relayed, from the node asked for an internal one.
func TestReplyMatching(t *testing.T) {
	const other = "127.0.0.1:6000"
	tc := newTestCore(t, Config{})
	user := tc.ask(peer, request{command: 7}, outgoing{}, 0, nil)
	tc.advance(20 * time.Millisecond)
	to := netip.MustParseAddrPort("127.0.0.1:41002")
	from := netip.MustParseAddrPort(other)
	id, token := IDOf(from), [32]byte{1, 2}
	full := reply{tid: user.p.TID, to: to, id: &id, token: &token, code: 17, value: []byte("v"),
		closer: compact.AddrsOf(compact.AppendAddr(nil, from))}
	tc.inOn(tc.c.client, other, full.append(nil))
	r := user.reply
	if user.calls != 1 || r.From != from || r.FromID == nil || *r.FromID != id || r.To != to || r.TID != user.p.TID ||
		r.RTT != 20*time.Millisecond || *r.Token != token || r.Error != 17 || string(r.Value) != "v" ||
		len(r.Closer()) != 1 || r.Closer()[0] != from || r.Conn != tc.c.client {
		t.Errorf("%d calls, reply %+v", user.calls, r)
	}
	var code ErrorCode
	if !errors.As(r.Err(), &code) || code != 17 {
		t.Errorf("error %v", r.Err())
	}
	if c, ok := r.Contact(); !ok || c != contactOf(from) {
		t.Errorf("contact %v %v", c, ok)
	}
	tc.inOn(tc.c.client, other, full.append(nil))
	if user.calls != 1 || tc.c.stats.Bad.Unexpected != 1 {
		t.Errorf("the second reply counted: %d calls, %+v", user.calls, tc.c.stats.Bad)
	}

	internal := tc.ask(peer, request{internal: true, command: cmdPing}, outgoing{}, 0, nil)
	tc.in(other, pong(other, internal.p.TID, false))
	if internal.calls != 0 || tc.c.stats.Bad.Foreign != 1 {
		t.Error("a foreign answer to a ping was taken")
	}
	tc.in(peer, pong(peer, internal.p.TID, false))
	if internal.calls != 1 || internal.err != nil || tc.c.stats.Ping.Rx != 1 {
		t.Errorf("ping not answered: %+v", internal)
	}
}

// An answer to nothing changes nothing.
func TestUnexpectedReply(t *testing.T) {
	tc := newTestCore(t, Config{})
	for tid := range uint16(100) {
		tc.in(peer, pong(peer, tid, true))
	}
	if tc.c.table.Len() != 0 || tc.c.nat.Len() != 0 || tc.c.stats.Bad.Unexpected != 100 {
		t.Errorf("%d nodes, %d samples, %+v", tc.c.table.Len(), tc.c.nat.Len(), tc.c.stats.Bad)
	}
}

// The window bounds what is transmitted; each answer refills it, and so does
// each slot of time.
func TestWindow(t *testing.T) {
	tc := newTestCore(t, Config{MaxWindow: 4})
	var asks []*ask
	for range 20 {
		asks = append(asks, tc.ask(peer, request{command: 7}, outgoing{}, 0, nil))
	}
	if n := len(tc.out()); n != 4 {
		t.Fatalf("%d transmitted, want 4", n)
	}
	tc.in(peer, pong(peer, asks[0].p.TID, false))
	if n := len(tc.out()); n != 1 || asks[0].calls != 1 {
		t.Errorf("%d transmitted after an answer, want 1", n)
	}
	tc.advance(slotTime)
	if n := len(tc.out()); n != 4 {
		t.Errorf("%d transmitted in the next slot, want 4", n)
	}
	tc.advance(10 * time.Second)
	for i, a := range asks {
		if a.calls != 1 {
			t.Errorf("request %d ended %d times", i, a.calls)
		}
	}
	if len(tc.c.queue) != 0 {
		t.Errorf("%d still wait", len(tc.c.queue))
	}
}

// Who is always busy, and always answered, is never held up: what is answered in
// a later slot than it was sent in does not fill the window.
func TestWindowOfBusyNode(t *testing.T) {
	tc := newTestCore(t, Config{MaxWindow: 4})
	const rtt = slotTime / 10
	for range 100 {
		var asks []*ask
		for range 4 {
			asks = append(asks, tc.ask(peer, request{command: 7}, outgoing{}, 0, nil))
		}
		if n := len(tc.out()); n != len(asks) {
			t.Fatalf("%d transmitted at %v, want %d", n, tc.c.now.Sub(tc.c.window.since), len(asks))
		}
		tc.advance(rtt)
		for _, a := range asks {
			tc.in(peer, pong(peer, a.p.TID, false))
		}
	}
}

// Requests are transmitted in the order of their making: what is asked next
// because an answer came does not overtake those that wait. The queue holds
// none that have ended.
func TestQueueIsFair(t *testing.T) {
	tc := newTestCore(t, Config{MaxWindow: 2})
	chain := outgoing{to: netip.MustParseAddrPort(peer)}
	chain.done = func(*Reply, error) { tc.ask(peer, request{command: 2}, outgoing{}, 0, nil) }
	p, err := tc.c.request(&request{command: 1}, chain, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	tc.ask(peer, request{command: 1}, outgoing{}, 0, nil)
	tc.ask(peer, request{command: 3}, outgoing{}, 0, nil)
	tc.out()
	tc.in(peer, pong(peer, p.TID, false))
	sent := tc.out()
	if len(sent) != 1 {
		t.Fatalf("%d transmitted after an answer, want 1", len(sent))
	}
	if m, _ := parseRequest(sent[0].Payload); m.command != 3 {
		t.Errorf("command %d was transmitted before 3, which has waited", m.command)
	}

	for range 1000 {
		var g requests
		tc.ask(peer, request{command: 4}, outgoing{}, 0, &g)
		tc.c.cancel(&g, ErrTimeout)
	}
	if n := len(tc.c.queue); n > 10 {
		t.Errorf("%d requests wait, most of which have ended", n)
	}
}

// A copy that waits for the window is dropped when the answer arrives: the
// reference transmits it, counts a timeout and evicts the node.
// docs/spec/dht-rpc.md §5.3.
func TestWaitingCopyOfAnsweredRequestIsDropped(t *testing.T) {
	tc := newTestCore(t, Config{MaxWindow: 2})
	a := tc.ask(peer, request{command: 7}, outgoing{timeout: 100 * time.Millisecond}, 5, nil)
	tc.out()
	for range 2 {
		tc.ask("127.0.0.1:5001", request{command: 8}, outgoing{timeout: time.Minute}, 0, nil)
	}
	tc.out()
	tc.advance(150 * time.Millisecond) // the retransmission must wait
	if !a.p.Deadline().IsZero() {
		t.Fatal("the retransmission does not wait")
	}
	tc.in(peer, pong(peer, a.p.TID, false))
	tc.out()
	tc.advance(3 * time.Second)
	for _, d := range tc.out() {
		if d.Peer.String() == peer {
			t.Error("an answered request was transmitted again")
		}
	}
	if a.calls != 1 || tc.c.stats.Requests.Timeouts != 0 {
		t.Errorf("%d calls, %d timeouts", a.calls, tc.c.stats.Requests.Timeouts)
	}
}

func TestCancelGroup(t *testing.T) {
	tc := newTestCore(t, Config{MaxWindow: 2})
	reason := errors.New("reason")
	var g requests
	var asks []*ask
	for range 5 {
		asks = append(asks, tc.ask(peer, request{command: 7}, outgoing{}, 3, &g))
	}
	outside := tc.ask(peer, request{command: 7}, outgoing{}, 3, nil)
	tc.in(peer, pong(peer, asks[1].p.TID, false))
	tc.c.cancel(&g, reason)
	for i, a := range asks {
		if want := reason; a.calls != 1 || i != 1 && a.err != want || i == 1 && a.err != nil {
			t.Errorf("request %d: %d calls, %v", i, a.calls, a.err)
		}
	}
	if outside.calls != 0 || tc.c.calls.Len() != 1 || g.first != nil {
		t.Errorf("%d in flight, the other one ended %d times", tc.c.calls.Len(), outside.calls)
	}
	tc.c.cancelAll(ErrClosed)
	if outside.err != ErrClosed || tc.c.calls.Len() != 0 {
		t.Errorf("error %v", outside.err)
	}
}

func TestRequestsThatCannotBeSent(t *testing.T) {
	tc := newTestCore(t, Config{})
	for name, f := range map[string]struct {
		to   string
		m    request
		want error
	}{
		"port 0":        {"127.0.0.1:0", request{}, ErrBadAddress},
		"IPv6":          {"[::1]:5", request{}, ErrBadAddress},
		"too large":     {peer, request{value: make([]byte, MaxMessage)}, ErrTooLarge},
		"large command": {peer, request{command: compact.MaxUint + 1}, ErrTooLarge},
	} {
		if _, err := tc.c.request(&f.m, outgoing{to: netip.MustParseAddrPort(f.to)}, 0, nil); err != f.want {
			t.Errorf("%s: %v, want %v", name, err, f.want)
		}
	}
	// As many requests as there can be in flight, and one more.
	for range 1 << 15 {
		if _, err := tc.c.request(&request{}, outgoing{to: netip.MustParseAddrPort(peer)}, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tc.c.request(&request{}, outgoing{to: netip.MustParseAddrPort(peer)}, 0, nil); err != ErrBusy {
		t.Errorf("one too many: %v", err)
	}
	tc.c.suspended = true
	if _, err := tc.c.request(&request{}, outgoing{to: netip.MustParseAddrPort(peer)}, 0, nil); err != ErrSuspended {
		t.Errorf("suspended: %v", err)
	}
	if tc.c.calls.Len() != 1<<15 {
		t.Errorf("%d in flight", tc.c.calls.Len())
	}
}

// Our id is in messages exactly when the node is persistent and the datagram
// leaves through the server socket. docs/spec/dht-rpc.md §2.2.
func TestWhenTheIDIsShown(t *testing.T) {
	for _, tc := range []struct {
		ephemeral, firewalled bool
		socket                string
		want                  bool
	}{
		{true, false, "", false},
		{false, false, "", true},
		{false, true, "", false}, // leaves through the client socket
		{false, false, "client", false},
		{false, true, "server", true},
		{false, false, "own", false},
	} {
		c := newTestCore(t, Config{})
		c.c.ephemeral, c.c.firewalled = tc.ephemeral, tc.firewalled
		o := outgoing{}
		switch tc.socket {
		case "client":
			o.conn = c.c.client
		case "server":
			o.conn = c.c.server
		case "own":
			o.conn = &nameConn{netip.MustParseAddrPort("127.0.0.1:41003")}
		}
		a := c.ask(peer, request{command: 7}, o, 0, nil)
		m, err := parseRequest(c.out()[0].Payload)
		if err != nil || (m.id != nil) != tc.want {
			t.Errorf("%+v: id %v, %v", tc, m.id, err)
		}
		if tc.socket == "" && a.p.Payload.conn != c.c.conn() {
			t.Errorf("%+v: wrong socket", tc)
		}
	}
}

// With a backoff the waits double up to a maximum.
func TestBackoff(t *testing.T) {
	tc := newTestCore(t, Config{})
	o := requestSettings([]RequestOption{WithBackoff(100*time.Millisecond, 300*time.Millisecond)}).outgoing
	a := tc.ask(peer, request{command: 7}, o, 3, nil)
	tc.out()
	for i, wait := range []time.Duration{100, 200, 300, 300} {
		tc.advance(wait*time.Millisecond - 1)
		tc.idle("too soon")
		tc.advance(1)
		if i < 3 && len(tc.out()) != 1 {
			t.Fatalf("no transmission after wait %d", i)
		}
	}
	if a.calls != 1 || !errors.Is(a.err, ErrTimeout) {
		t.Errorf("%d calls, error %v", a.calls, a.err)
	}
}

// With adaptive timeouts a fast peer is asked again soon, but never sooner than
// the minimum.
func TestAdaptiveTimeouts(t *testing.T) {
	tc := newTestCore(t, Config{AdaptiveTimeout: &AdaptiveTimeout{Jitter: -1}})
	for range 5 {
		a := tc.ask(peer, request{command: 7}, outgoing{}, 0, nil)
		tc.advance(10 * time.Millisecond)
		tc.in(peer, pong(peer, a.p.TID, false))
	}
	late := tc.ask(peer, request{internal: true, command: cmdDelayedPing}, outgoing{timeout: 10 * time.Second}, 0, nil)
	tc.advance(9 * time.Second) // says nothing about the path
	tc.in(peer, pong(peer, late.p.TID, false))
	a := tc.ask(peer, request{command: 7}, outgoing{}, 0, nil)
	tc.advance(299 * time.Millisecond)
	if a.calls != 0 {
		t.Error("gave up before the minimum")
	}
	tc.advance(time.Millisecond)
	if a.err != ErrTimeout {
		t.Error("did not give up at the minimum")
	}
}

// What is remembered of destinations is bounded and ages.
func TestEstimatorForgets(t *testing.T) {
	now := testStart
	e := newEstimator(AdaptiveTimeout{Size: 100, Jitter: -1}, now)
	a := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
	}
	for i := range 1000 {
		e.put(now, a(i), 2*time.Second)
		if n := len(e.fresh) + len(e.old); n > 100 {
			t.Fatalf("%d destinations remembered", n)
		}
	}
	if d := e.timeout(now, a(999), 1, 0); d != 4*time.Second {
		t.Errorf("timeout %v of a slow destination", d)
	}
	// Unused for 400 to 800 s, a measurement is forgotten.
	now = now.Add(399 * time.Second)
	if _, ok := e.get(now, a(999)); !ok {
		t.Error("forgotten after 399 s")
	}
	now = now.Add(399 * time.Second)
	if _, ok := e.get(now, a(999)); !ok {
		t.Error("forgotten though it was used")
	}
	now = now.Add(801 * time.Second)
	if _, ok := e.get(now, a(999)); ok {
		t.Error("remembered for 801 s")
	}
}

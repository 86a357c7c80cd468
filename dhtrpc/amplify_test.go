package dhtrpc

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// large is a handler that answers a command with a value of 1,000 bytes, and
// leaves it out as it should if it is too large.
var large = HandlerFunc(func(r *Request) bool {
	if r.Reply(make([]byte, 1000)) == ErrTooLarge {
		r.Reply(nil, Withheld())
	}
	return true
})

// A flood asks a core for large values, a millisecond apart, and sums up what
// comes.
type flood struct {
	sent, got, values, withheld, tokens int
	closer                              int // least, of those without a value
}

func (f *flood) ask(t *testing.T, tc *testCore, from string, token *[32]byte, n int) {
	t.Helper()
	if f.closer == 0 {
		f.closer = K
	}
	for i := range n {
		tc.c.now = tc.c.now.Add(time.Millisecond)
		tc.c.out.buf, tc.c.out.items, tc.at = tc.c.out.buf[:0], tc.c.out.items[:0], 0
		p := (&request{tid: uint16(i), to: tc.c.server.LocalAddr(), token: token, command: 7, target: &ID{byte(i)}}).append(nil)
		tc.in(from, p)
		out := tc.out()
		if len(out) != 1 {
			t.Fatalf("%d datagrams answer a request", len(out))
		}
		m, err := parseReply(out[0].Payload)
		if err != nil {
			t.Fatal(err)
		}
		f.sent += len(p)
		f.got += len(out[0].Payload)
		if m.value != nil {
			f.values++
		} else {
			f.closer = min(f.closer, m.closer.Len())
		}
		if m.withheld {
			f.withheld++
		}
		if m.token != nil {
			f.tokens++
		}
	}
}

func largeCore(t *testing.T, l Limits) *testCore {
	tc := newTestCore(t, Config{Handler: large, Limits: l})
	tc.c.ephemeral = false
	for i := range 40 {
		tc.addKnown(fmt.Sprintf("127.0.0.1:%d", 5000+i), 0)
	}
	return tc
}

// A public source that has not shown a token gets values until its network has had
// its bytes; then replies of four times the request at most, with a token, and
// with as many closer nodes as fit.
func TestRepliesToUnprovenSourcesAreLimited(t *testing.T) {
	tc := largeCore(t, Limits{})
	var first, then flood
	first.ask(t, tc, "93.184.216.34:4000", nil, 400)
	if first.values != 400 || first.withheld != 0 {
		t.Errorf("at first %+v", first)
	}
	for i := range 20 { // all its addresses are one source
		then.ask(t, tc, fmt.Sprintf("93.184.216.%d:4000", i+1), nil, 500)
	}
	t.Logf("afterwards %+v", then)
	// In ten seconds, ten times the bytes, and what the bucket still had.
	if excess := then.got - 4*then.sent; excess > 10*64<<10+8*64<<10 || then.values < 500 || then.values > 1200 {
		t.Errorf("afterwards %+v", then)
	}
	if then.withheld != 10000-then.values || then.tokens != 10000 {
		t.Errorf("afterwards %+v", then)
	}
	// Who shows the token gets them all, and so does another network, and so do
	// those that are not public.
	token := tc.c.secrets.Issue(tc.c.now, netip.MustParseAddr("93.184.216.34"))
	for from, token := range map[string]*[32]byte{
		"93.184.216.34:4000": &token, "93.184.217.1:4000": nil, "127.0.0.1:4000": nil, "10.1.1.1:4000": nil, "100.64.1.1:4000": nil,
	} {
		var f flood
		f.ask(t, tc, from, token, 300)
		if f.values != 300 {
			t.Errorf("%s: %+v", from, f)
		}
	}
}

func TestUnprovenBytes(t *testing.T) {
	for limit, want := range map[int]int{1: 0, 1000: 8000 / 1027, -1: 400} {
		tc := largeCore(t, Limits{UnprovenBytes: limit})
		var f flood
		f.ask(t, tc, "93.184.216.34:4000", nil, 400)
		if f.values < want || f.values > want+1 {
			t.Errorf("limit %d: %d values, want %d", limit, f.values, want)
		}
		// Closer nodes make room: 15 fit into four times the request.
		if limit == 1 && (f.got > 4*f.sent || f.closer != 15 || f.tokens != 400) {
			t.Errorf("limit %d: %+v", limit, f)
		}
	}
	// What is small for its request is never limited, nor is the least of replies.
	tc := newTestCore(t, Config{Limits: Limits{UnprovenBytes: 1}, Handler: HandlerFunc(func(r *Request) bool {
		return r.Reply(nil) == nil
	})})
	tc.c.ephemeral = false
	for i := range 100 {
		tc.in("93.184.216.34:4000", (&request{tid: uint16(i), to: tc.c.server.LocalAddr(), command: 7}).append(nil))
		tc.in("93.184.216.34:4000", (&request{tid: uint16(i), to: tc.c.server.LocalAddr(), internal: true, command: cmdFindNode, target: &ID{}}).append(nil))
	}
	if n := len(tc.out()); n != 200 || tc.c.stats.Refused.TooLarge != 0 {
		t.Errorf("%d answers of 200", n)
	}
}

// A query gets a value that was withheld with a second request, which shows the
// token.
func TestQueryFetchesWhatIsWithheld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		for range 25 {
			tn.add(Config{Ephemeral: Never, Handler: large, Limits: Limits{UnprovenBytes: 1}})
		}
		client := tn.add(Config{Ephemeral: Always})
		target := ID{7}
		values, replies := 0, 0
		q := client.Query(Message{Command: 7, Target: &target}, QueryOptions{})
		for r, err := range q.Replies(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if replies++; bytes.Equal(r.Value, make([]byte, 1000)) {
				values++
			}
		}
		if values < K || len(q.ClosestReplies()) != K {
			t.Errorf("%d values in %d replies, %d closest", values, replies, len(q.ClosestReplies()))
		}
	})
}

// A node that withholds for ever is asked twice.
func TestWithheldForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		asked := 0
		liar := tn.add(Config{Ephemeral: Never, Handler: HandlerFunc(func(r *Request) bool {
			asked++
			r.Reply(nil, Withheld())
			return true
		})})
		client := tn.add(Config{Ephemeral: Always})
		q := client.Query(Message{Command: 7, Target: &ID{7}}, QueryOptions{Nodes: []netip.AddrPort{liar.PublicAddr()}, OnlyClosest: true})
		if err := q.Run(t.Context()); err != nil || asked != 2 || len(q.ClosestReplies()) != 1 {
			t.Errorf("asked %d times: %v", asked, err)
		}
	})
}

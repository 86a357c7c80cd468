package dhtrpc

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/warren-dht/warren/compact"
)

// Who enters the table: whoever says, with the right id, that it is persistent.
func TestContactsAreLearned(t *testing.T) {
	self := netip.MustParseAddrPort("127.0.0.1:41001")
	forged := func(from string) []byte {
		m := request{tid: 7, to: self, id: &ID{1}, internal: true}
		return m.append(nil)
	}
	for _, tc := range []struct {
		name string
		cfg  Config
		in   []byte
		want int
	}{
		{"persistent", Config{}, hello("127.0.0.1:5000"), 1},
		{"ephemeral", Config{}, (&request{to: self, internal: true}).append(nil), 0},
		{"forged id", Config{}, forged("127.0.0.1:5000"), 0},
		{"id of another port", Config{}, hello("127.0.0.1:5001"), 0},
		{"refused by the filter", Config{Filter: func(a netip.AddrPort) bool { return a.Port() != 5000 }}, hello("127.0.0.1:5000"), 0},
	} {
		c := newTestCore(t, tc.cfg)
		c.in("127.0.0.1:5000", tc.in)
		if n := c.c.table.Len(); n != tc.want {
			t.Errorf("%s: %d nodes, want %d", tc.name, n, tc.want)
		}
		if n := c.took(EventNodeAdded); n != tc.want {
			t.Errorf("%s: %d add-node events, want %d", tc.name, n, tc.want)
		}
		if len(c.out()) != 1 {
			t.Errorf("%s: not answered", tc.name)
		}
	}
}

func TestOwnIDStaysOut(t *testing.T) {
	tc := newTestCore(t, Config{})
	tc.c.rebase(netip.MustParseAddrPort("127.0.0.1:41001"))
	tc.in("127.0.0.1:41001", hello("127.0.0.1:41001"))
	if tc.c.table.Len() != 0 {
		t.Error("a node is in its own table")
	}
}

// A stranger with a public address is pinged before it is believed: the source
// of a request may be forged.
func TestPublicStrangersAreVerified(t *testing.T) {
	const stranger = "93.184.216.34:5000"
	tc := newTestCore(t, Config{})
	tc.in(stranger, hello(stranger))
	sent := tc.out()
	if len(sent) != 2 || tc.c.table.Len() != 0 {
		t.Fatalf("%d datagrams and %d nodes, want a reply, a ping and none", len(sent), tc.c.table.Len())
	}
	m, err := parseRequest(sent[0].Payload)
	if err != nil || m.command != cmdPing || sent[0].Peer.String() != stranger {
		t.Fatalf("sent %+v to %v, want a ping", m, sent[0].Peer)
	}
	tc.in(stranger, hello(stranger))
	if n := len(tc.out()); n != 1 {
		t.Errorf("%d datagrams for a second request, want the reply only", n)
	}
	tc.in(stranger, pong(stranger, m.tid, true))
	if tc.c.table.Len() != 1 {
		t.Error("the stranger answered for itself and is not in the table")
	}
	tc.in(stranger, hello(stranger))
	if n := len(tc.out()); n != 1 {
		t.Errorf("%d datagrams for a request of a known node, want the reply only", n)
	}

	// One that does not answer never enters.
	const silent = "93.184.217.34:5000"
	tc.in(silent, hello(silent))
	if n := len(tc.out()); n != 2 {
		t.Fatalf("%d datagrams, want a reply and a ping", n)
	}
	tc.advance(4 * time.Second)
	if n := len(tc.out()); n != proofTries {
		t.Errorf("%d pings more, want %d", n, proofTries)
	}
	if tc.c.table.Len() != 1 || len(tc.c.proving) != 0 {
		t.Errorf("%d nodes, %d being verified", tc.c.table.Len(), len(tc.c.proving))
	}
}

func TestVerificationsAreLimited(t *testing.T) {
	tc := newTestCore(t, Config{Limits: Limits{Verifications: 3}})
	for i := range 10 {
		from := fmt.Sprintf("93.184.%d.34:5000", i)
		tc.in(from, hello(from))
	}
	if n := len(tc.out()); n != 13 {
		t.Errorf("%d datagrams, want 10 replies and 3 pings", n)
	}
	if n := tc.c.stats.Refused.Limits; n != 7 {
		t.Errorf("%d refusals counted, want 7", n)
	}
}

// addKnown puts a node into the table that was last heard from so many ticks
// ago.
func (tc *testCore) addKnown(addr string, ago int32) {
	tc.t.Helper()
	tc.c.addNode(netip.MustParseAddrPort(addr))
	n := tc.c.table.Get(IDOf(netip.MustParseAddrPort(addr)))
	if n == nil {
		tc.t.Fatalf("%s did not enter the table", addr)
	}
	n.Data = entry{added: tc.c.tick - ago, pinged: tc.c.tick - ago}
}

// sameBucket returns n addresses whose ids stand in the first bucket.
func (tc *testCore) sameBucket(n int, format string) (list []string) {
	own := tc.c.table.Own()
	for i := 1; len(list) < n; i++ {
		a := fmt.Sprintf(format, i)
		if id := IDOf(netip.MustParseAddrPort(a)); (id[0]^own[0])&0x80 != 0 {
			list = append(list, a)
		}
	}
	return list
}

// docs/spec/dht-rpc.md §6.4.
func TestFullBucket(t *testing.T) {
	for _, tc := range []struct {
		name       string
		booted     bool
		ago        int32 // ticks since the bucket's nodes were heard from
		answer     string
		wantPing   bool
		wantNewest bool
	}{
		{"not bootstrapped", false, 100, "", false, false},
		{"all heard from in this tick", true, 0, "", false, false},
		{"heard from recently, not long-lived", true, 5, "timeout", true, true},
		{"oldest does not answer", true, 100, "timeout", true, true},
		{"oldest answers", true, 100, "pong", true, false},
		{"oldest answers without an id", true, 100, "idless", true, true},
	} {
		c := newTestCore(t, Config{})
		c.c.bootstrapped = tc.booted
		list := c.sameBucket(K+1, "127.0.0.1:%d")
		for _, a := range list[:K] {
			c.addKnown(a, tc.ago)
		}
		if c.c.table.Len() != K {
			t.Fatalf("%s: %d nodes", tc.name, c.c.table.Len())
		}
		newcomer := list[K]
		c.in(newcomer, hello(newcomer))
		sent := c.out()
		if pinged := len(sent) == 2; pinged != tc.wantPing {
			t.Errorf("%s: pinged %v, want %v", tc.name, pinged, tc.wantPing)
			continue
		}
		if tc.wantPing {
			m, _ := parseRequest(sent[0].Payload)
			at := sent[0].Peer.String()
			switch tc.answer {
			case "timeout":
				c.advance(4100 * time.Millisecond)
				c.out()
			case "pong":
				c.in(at, pong(at, m.tid, true))
			case "idless":
				c.in(at, pong(at, m.tid, false))
			}
			if c.c.swaps != 0 {
				t.Errorf("%s: %d swaps still run", tc.name, c.c.swaps)
			}
		}
		if in := c.c.table.Get(IDOf(netip.MustParseAddrPort(newcomer))) != nil; in != tc.wantNewest {
			t.Errorf("%s: newcomer in the table %v, want %v", tc.name, in, tc.wantNewest)
		}
		if c.c.table.Len() != K {
			t.Errorf("%s: %d nodes in the end", tc.name, c.c.table.Len())
		}
	}
}

func TestLongLivedNodeKeepsItsPlace(t *testing.T) {
	tc := newTestCore(t, Config{})
	tc.c.bootstrapped, tc.c.tick = true, 1000
	list := tc.sameBucket(K+1, "127.0.0.1:%d")
	for _, a := range list[:K] {
		tc.addKnown(a, 0)
		n := tc.c.table.Get(IDOf(netip.MustParseAddrPort(a)))
		n.Data.added, n.Data.pinged = tc.c.tick-oldTicks-1, tc.c.tick-recentTicks+1
	}
	tc.in(list[K], hello(list[K]))
	if n := len(tc.out()); n != 1 {
		t.Errorf("%d datagrams, want the reply only", n)
	}
}

func TestSwapsAreLimited(t *testing.T) {
	tc := newTestCore(t, Config{})
	tc.c.bootstrapped = true
	list := tc.sameBucket(K+10, "127.0.0.1:%d")
	for _, a := range list[:K] {
		tc.addKnown(a, 100)
	}
	for _, a := range list[K:] {
		tc.in(a, hello(a))
	}
	if n := len(tc.out()); n != 10+maxSwaps {
		t.Errorf("%d datagrams, want 10 replies and %d pings", n, maxSwaps)
	}
}

// hint is a DOWN_HINT about an address.
func hint(dead string) []byte {
	m := request{tid: 9, to: netip.MustParseAddrPort("127.0.0.1:41001"), internal: true, command: cmdDownHint,
		value: compact.AppendAddr(nil, netip.MustParseAddrPort(dead))}
	return m.append(nil)
}

// A hint removes nobody: the node is asked, and stays if it answers for itself,
// even in the tick in which it was heard from, where the reference removes it.
// docs/spec/dht-rpc.md §4, §6.5.
func TestDownHintIsVerified(t *testing.T) {
	const node = "127.0.0.1:5000"
	for _, tc := range []struct {
		name   string
		answer string
		want   int
	}{
		{"alive", "pong", 1},
		{"alive without its id", "idless", 0},
		{"dead", "timeout", 0},
	} {
		c := newTestCore(t, Config{})
		c.in(node, hello(node))
		c.out()
		c.in("127.0.0.1:6000", hint(node))
		sent := c.out()
		if len(sent) != 2 || sent[0].Peer.String() != node {
			t.Fatalf("%s: %d datagrams, want a ping and a reply", tc.name, len(sent))
		}
		m, _ := parseRequest(sent[0].Payload)
		switch tc.answer {
		case "pong":
			c.in(node, pong(node, m.tid, true))
		case "idless":
			c.in(node, pong(node, m.tid, false))
		case "timeout":
			c.advance(4100 * time.Millisecond)
		}
		if n := c.c.table.Len(); n != tc.want || c.c.checks != 0 {
			t.Errorf("%s: %d nodes and %d checks, want %d and 0", tc.name, n, c.c.checks, tc.want)
		}
		if n := c.took(EventNodeRemoved); n != 1-tc.want {
			t.Errorf("%s: %d remove-node events", tc.name, n)
		}
	}
}

func TestDownHintsAreLimited(t *testing.T) {
	tc := newTestCore(t, Config{})
	for i := range 40 {
		tc.addKnown(fmt.Sprintf("127.0.0.1:%d", 5000+i), 3)
	}
	for i := range 40 {
		tc.in("127.0.0.1:6000", hint(fmt.Sprintf("127.0.0.1:%d", 5000+i)))
	}
	if n := len(tc.out()); n != 40+maxChecks {
		t.Errorf("%d datagrams, want 40 replies and %d pings", n, maxChecks)
	}
	tc.in("127.0.0.1:6000", hint("127.0.0.1:1"))
	if n := len(tc.out()); n != 1 {
		t.Errorf("%d datagrams for a hint about a stranger, want the reply", n)
	}

	// A single public address is followed only so often within a tick.
	tc = newTestCore(t, Config{Limits: Limits{DownHintsPerHost: 2}})
	for i := range 4 {
		tc.addKnown(fmt.Sprintf("127.0.0.1:%d", 5000+i), 3)
		tc.in("93.184.216.34:1", hint(fmt.Sprintf("127.0.0.1:%d", 5000+i)))
	}
	if n := len(tc.out()); n != 4+2 {
		t.Errorf("%d datagrams, want 4 replies and 2 pings", n)
	}
}

// One network cannot fill a bucket or the table; private ones are exempt.
func TestDiversity(t *testing.T) {
	count := func(cfg Config, format string) int {
		tc := newTestCore(t, cfg)
		for i := 1; i <= 200; i++ {
			tc.c.addNode(netip.MustParseAddrPort(fmt.Sprintf(format, i)))
		}
		return tc.c.table.Len()
	}
	if n := count(Config{}, "93.184.216.%d:5000"); n != 40 {
		t.Errorf("%d nodes of one /24 and no other, want 40", n)
	}
	if n := count(Config{}, "10.0.0.%d:5000"); n < 50 {
		t.Errorf("%d nodes of a private network, want no limit", n)
	}
	if n := count(Config{Limits: Limits{PerBucket: -1, PerTable: -1}}, "93.184.216.%d:5000"); n < 50 {
		t.Errorf("%d nodes without limits", n)
	}
	if n := count(Config{Limits: Limits{PerTable: 3}}, "93.184.216.%d:5000"); n != 12 {
		t.Errorf("%d nodes, want 12", n)
	}

	// With others there it has ten places, and two a bucket; what it had before
	// goes, and is told.
	tc := newTestCore(t, Config{})
	of := func() (all, bucket int) {
		for n := range tc.c.table.All() {
			if strings.HasPrefix(n.Addr.String(), "93.184.216.") {
				all++
				same := 0
				for _, x := range tc.c.table.Bucket(n.ID) {
					if strings.HasPrefix(x.Addr.String(), "93.184.216.") {
						same++
					}
				}
				bucket = max(bucket, same)
			}
		}
		return all, bucket
	}
	for i := 1; i <= 200; i++ {
		tc.c.addNode(netip.MustParseAddrPort(fmt.Sprintf("93.184.216.%d:5000", i)))
	}
	tc.took(0)
	for i := range 8 {
		if n, _ := of(); n != 40 {
			t.Fatalf("%d nodes beside %d other networks", n, i)
		}
		tc.c.addNode(netip.MustParseAddrPort(fmt.Sprintf("20.%d.0.1:5000", i)))
	}
	all, bucket := of()
	if all != 10 || bucket != 2 {
		t.Errorf("%d nodes of one /24, %d in a bucket, want 10 and 2", all, bucket)
	}
	if n := tc.took(EventNodeRemoved); n != 30 {
		t.Errorf("%d nodes have left", n)
	}
	for i := 1; i <= 200; i++ {
		tc.c.addNode(netip.MustParseAddrPort(fmt.Sprintf("93.184.216.%d:6000", i)))
	}
	if n, _ := of(); n != 10 {
		t.Errorf("%d nodes of one /24 come later, want 10", n)
	}
}

// The public address is learned from contacts, once from each, and from a few
// peers without an id. docs/spec/dht-rpc.md §6.3.
func TestNATSampling(t *testing.T) {
	seen := netip.MustParseAddrPort("127.0.0.1:41001")
	tc := newTestCore(t, Config{Firewalled: new(bool)})
	tc.in("127.0.0.1:5000", hello("127.0.0.1:5000"))
	if publicAddr(tc.c.nat) != seen || tc.took(EventNATUpdate) != 1 {
		t.Fatalf("public address %v", publicAddr(tc.c.nat))
	}
	for range 5 {
		tc.in("127.0.0.1:5000", hello("127.0.0.1:5000"))
	}
	if n := tc.c.nat.Len(); n != 1 {
		t.Errorf("one contact was sampled %d times", n)
	}
	tc.c.tick += oldTicks
	tc.in("127.0.0.1:5000", hello("127.0.0.1:5000"))
	if n := tc.c.nat.Len(); n != 2 {
		t.Errorf("%d samples half an hour later, want 2", n)
	}
	tc.c.tick += oldTicks
	tc.inOn(tc.c.client, "127.0.0.1:5000", hello("127.0.0.1:5000"))
	if n := tc.c.nat.Len(); n != 2 {
		t.Errorf("%d samples after a datagram on another socket, want 2", n)
	}

	// Peers without an id count when they answer, the first one only.
	tc = newTestCore(t, Config{Firewalled: new(bool)})
	tc.out()
	for i := range 3 {
		from := fmt.Sprintf("127.0.0.1:%d", 5000+i)
		tc.c.ping(netip.MustParseAddrPort(from), 0, nil)
		tid := tc.wantRequest("ping", cmdPing, from)
		tc.in(from, pong(from, tid, false))
	}
	tc.in("127.0.0.1:5009", (&request{to: seen, internal: true}).append(nil))
	if n := tc.c.nat.Len(); n != 1 {
		t.Errorf("%d samples of peers without an id, want 1", n)
	}
	// Not an address that anybody can have.
	tc = newTestCore(t, Config{})
	for _, a := range []string{"0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "93.184.216.34:0"} {
		if tc.c.sampleNAT(netip.AddrPort{}, netip.MustParseAddrPort(a)); tc.c.nat.Len() != 0 {
			t.Fatalf("%s was sampled", a)
		}
	}
}

// A contact added by hand twice is one contact; the reference lists it twice.
func TestAddNodeTwice(t *testing.T) {
	tc := newTestCore(t, Config{})
	a := netip.MustParseAddrPort("127.0.0.1:5000")
	tc.c.addNode(a)
	tc.c.addNode(a)
	n := 0
	for range tc.c.table.All() {
		n++
	}
	if n != 1 || tc.c.table.Len() != 1 || tc.took(EventNodeAdded) != 1 {
		t.Errorf("listed %d times, %d nodes", n, tc.c.table.Len())
	}
}

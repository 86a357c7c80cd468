package dhtrpc1

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/warren-dht/warren/udp"
)

func (tc *testCore) pong(to request, from Contact) {
	tc.in(from.Addr, (&response{tid: to.tid, id: from.ID[:], value: appendPeer(nil, from.Addr)}).Append(nil))
}

func (tc *testCore) pingFrom(c Contact) {
	tc.t.Helper()
	before := len(tc.out)
	tc.in(c.Addr, (&request{command: commandPing, id: c.ID[:]}).Append(nil))
	pong := slices.IndexFunc(tc.out[before:], func(d udp.Datagram) bool { return !isRequest(d.Payload) })
	if pong < 0 {
		tc.t.Fatalf("%v: no pong", c.Addr)
	}
	tc.out = slices.Delete(tc.out, before+pong, before+pong+1)
}

func (tc *testCore) has(c Contact) bool {
	n := tc.table.Get(c.ID)
	return n != nil && n.Addr == c.Addr
}

// One spoofed datagram does not redirect an entry of the table
// (docs/spec/dht-rpc-v2.md §14).
func TestAddressIsNotOverwritten(t *testing.T) {
	tc := newTestCore(t, Config{})
	old := Contact{ID: ID{1}, Addr: testAddr(2, 1000)}
	thief := Contact{ID: ID{1}, Addr: testAddr(3, 1000)}
	tc.pingFrom(old)

	tc.pingFrom(thief)
	r := tc.wantRequest("the old address is asked", commandPing, old.Addr)
	tc.pingFrom(thief)
	tc.idle("one check at a time")
	tc.pong(r, old)
	if !tc.has(old) {
		t.Fatal("the entry was redirected although the old address answers")
	}

	tc.pingFrom(thief) // by now the node has moved there
	tc.wantRequest("the old address is asked again", commandPing, old.Addr)
	tc.pass(requestTimeout)
	r = tc.wantRequest("the new address must answer", commandPing, thief.Addr)
	if tc.table.Len() != 0 {
		t.Fatal("a dead entry is in the table")
	}
	tc.pong(r, thief)
	if !tc.has(thief) || tc.checks != 0 {
		t.Fatalf("%d nodes, %d checks", tc.table.Len(), tc.checks)
	}
}

// An answer with another id is not the node's.
func TestCheckWantsTheID(t *testing.T) {
	tc := newTestCore(t, Config{})
	a := Contact{ID: ID{1}, Addr: testAddr(2, 1000)}
	b := Contact{ID: ID{2}, Addr: a.Addr}
	tc.pingFrom(a)
	tc.pass(tick)
	r := tc.wantRequest("who only asked is verified", commandPing, a.Addr)
	tc.pong(r, b)
	if tc.has(a) || !tc.has(b) {
		t.Error("the entry of an id that is gone stayed")
	}
}

func TestFullBucket(t *testing.T) {
	tc := newTestCore(t, Config{})
	var nodes []Contact
	for i := range K {
		c := Contact{ID: ID{byte(i)}, Addr: testAddr(2, uint16(1000+i))} // our id begins with a one
		nodes = append(nodes, c)
		tc.heard(tc.now, c, true)
		tc.now = tc.now.Add(time.Millisecond)
	}
	newcomer := Contact{ID: ID{0x77}, Addr: testAddr(3, 1)}
	tc.pingFrom(newcomer)
	tc.idle("all were heard from lately")
	if tc.has(newcomer) {
		t.Fatal("the newcomer pushed somebody out")
	}

	tc.now = tc.now.Add(freshFor)
	tc.pingFrom(newcomer)
	r := tc.wantRequest("the oldest is asked", commandPing, nodes[0].Addr)
	tc.pong(r, nodes[0])
	tc.wantRequest("then the next", commandPing, nodes[1].Addr)
	tc.now = tc.now.Add(requestTimeout)
	tc.expire(tc.now)
	tc.idle("the first failure makes room")
	if !tc.has(newcomer) || tc.has(nodes[1]) || !tc.has(nodes[0]) {
		t.Error("the newcomer did not take the dead node's place")
	}

	// While it bootstraps a node has just heard from everybody.
	tc.bootstrapped = false
	tc.now = tc.now.Add(freshFor)
	tc.pingFrom(Contact{ID: ID{0x78}, Addr: testAddr(3, 2)})
	tc.idle("before the first bootstrap has ended")
}

// Who answers does not wait for those that have only sent requests, whose names
// and addresses may be invented.
func TestProvenNodesComeFirst(t *testing.T) {
	tc := newTestCore(t, Config{})
	for i := range K {
		tc.pingFrom(Contact{ID: ID{byte(i)}, Addr: testAddr(2, uint16(1000+i))})
	}
	for i := range K {
		c := Contact{ID: ID{0x20, byte(i)}, Addr: testAddr(3, uint16(1000+i))}
		if tc.heard(tc.now, c, true); !tc.has(c) {
			t.Fatalf("a node that answers has no place among liars, nor have %d others", i)
		}
	}
	late := Contact{ID: ID{0x21}, Addr: testAddr(4, 1)}
	if tc.heard(tc.now, late, true); tc.has(late) {
		t.Error("a node pushed out one that answers, too")
	}

	public := func(i byte) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, 9, 9, i}), 1)
	}
	tc = newTestCore(t, Config{})
	for i := range limits.PerBucket {
		tc.pingFrom(Contact{ID: ID{byte(i)}, Addr: public(byte(i))})
	}
	neighbour := Contact{ID: ID{0x20}, Addr: public(100)}
	if tc.heard(tc.now, neighbour, true); !tc.has(neighbour) {
		t.Error("liars of a node's subnet keep it out")
	}
	thief := Contact{ID: ID{0x30}, Addr: public(101)}
	owner := Contact{ID: thief.ID, Addr: testAddr(5, 1)}
	tc = newTestCore(t, Config{})
	tc.pingFrom(thief)
	if tc.heard(tc.now, owner, true); !tc.has(owner) {
		t.Error("an id that somebody took keeps its owner out")
	}
}

// Each tick verifies some of those that have only sent requests; the flood of a
// liar neither grows the table nor our traffic without bound.
func TestFloodOfIDs(t *testing.T) {
	tc := newTestCore(t, Config{})
	before := tc.table.Len()
	for i := range 20000 {
		var id ID
		id[0], id[1], id[2] = byte(i), byte(i>>8), byte(i>>16)
		tc.pingFrom(Contact{ID: id, Addr: testAddr(byte(2+i%100), uint16(1000+i))})
	}
	tc.idle("no request follows from a flood")
	full := tc.table.Len()
	if before != 0 || full > 32*K {
		t.Errorf("%d nodes", full)
	}
	sent := tc.stats.Sent
	tc.pass(time.Minute)
	if n := tc.stats.Sent - sent; n > 12*(verifyBatch+3) {
		t.Errorf("%d pings in a minute", n)
	}
	tc.pass(time.Duration(full/verifyBatch+1) * tick)
	if n := tc.table.Len(); n != 0 {
		t.Errorf("%d liars are left", n)
	}
}

func TestSweep(t *testing.T) {
	tc := newTestCore(t, Config{})
	var nodes []Contact
	for i := range 6 {
		c := Contact{ID: ID{byte(1 + i)}, Addr: testAddr(2, uint16(1000+i))}
		nodes = append(nodes, c)
		tc.heard(tc.now, c, true)
	}
	tc.pass(sweepTicks*tick - time.Second)
	tc.idle("before 40 s")
	tc.pass(time.Second)
	for i := range 3 {
		r := tc.wantRequest("sweep", commandPing, nodes[i].Addr)
		if i < 2 {
			tc.pong(r, nodes[i])
		}
	}
	tc.idle("three at a time")
	tc.pass(requestTimeout)
	if tc.has(nodes[2]) || !tc.has(nodes[0]) || !tc.has(nodes[3]) {
		t.Error("the silent node and no other must go")
	}
	tc.queries = 3
	tc.pass(sweepTicks * tick)
	tc.wantRequest("one while queries are busy", commandPing, nodes[3].Addr)
	tc.idle("one while queries are busy")
}

func TestSuspectIsChecked(t *testing.T) {
	tc := newTestCore(t, Config{})
	c := Contact{ID: ID{1}, Addr: testAddr(2, 1000)}
	tc.heard(tc.now, c, true)
	tc.pass(tick + time.Second)
	tc.idle("proven")
	tc.suspect(c)
	tc.pass(tick)
	r := tc.wantRequest("suspect", commandPing, c.Addr)
	tc.pong(r, c)
	tc.pass(2 * tick)
	tc.idle("proven again")
}

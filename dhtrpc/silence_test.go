package dhtrpc

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// listed reports whether a node's table holds an address.
func listed(n *Node, a netip.AddrPort) bool {
	return slices.ContainsFunc(n.Nodes(), func(c Contact) bool { return c.Addr == a })
}

// naming counts the nodes whose tables hold an address.
func (tn *testNet) naming(a netip.AddrPort) (n int) {
	for _, x := range tn.nodes {
		if listed(x, a) {
			n++
		}
	}
	return n
}

// A node that was late once, and does not answer a ping, is not asked any more by
// queries for a while; if it answers again, it is.
func TestSilentNodesAreNotAsked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 40)
		client := tn.add(Config{Ephemeral: Always})
		h := tn.net.Host()
		dead := netip.AddrPortFrom(h.Addr(), 5000)
		for _, n := range tn.nodes {
			n.AddNode(dead)
		}
		named := tn.naming(dead)
		took := func() time.Duration {
			t.Helper()
			began := time.Now()
			q := client.FindNode(IDOf(dead), QueryOptions{})
			if err := q.Run(t.Context()); err != nil || len(q.Closest()) != K {
				t.Fatalf("%d closest: %v", len(q.Closest()), err)
			}
			return time.Since(began)
		}
		if d := took(); d < 2*soonLeast {
			t.Fatalf("the first query takes %v: nobody was silent", d)
		}
		if d := took(); d > soonLeast {
			t.Errorf("the next query takes %v", d)
		}
		time.Sleep(5 * time.Second)
		if listed(client, dead) {
			t.Error("it is still in the table")
		}
		for range 5 {
			if d := took(); d > soonLeast {
				t.Errorf("a later query takes %v", d)
			}
		}
		time.Sleep(10 * time.Second) // hints have gone out to those who name it
		if n := tn.naming(dead); n > named/2 {
			t.Errorf("%d of %d still name it", n, named)
		}
		// It comes back.
		n, err := Listen(Config{Network: h, Port: 5000, ExactPort: true, Ephemeral: Never, Bootstrap: []string{tn.addr().String()}})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		tn.ready(n)
		if _, err := client.Ping(t.Context(), dead); err != nil {
			t.Fatal(err)
		}
		q := client.FindNode(IDOf(dead), QueryOptions{})
		if err := q.Run(t.Context()); err != nil || len(q.Closest()) == 0 || q.Closest()[0].Addr != dead {
			t.Errorf("it is not found again: %v %v", q.Closest(), err)
		}
	})
}

// When nobody answers it is us: the table stays as it is, and afterwards
// everybody is asked.
func TestOwnOutageIsNotTheirs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 30)
		h := tn.net.Host()
		client := tn.add(Config{Network: h, Ephemeral: Never})
		time.Sleep(time.Minute)
		known := len(client.Nodes())
		client.FindNode(ID{1}, QueryOptions{}).Run(t.Context())
		h.SetUp(false)
		time.Sleep(2 * time.Minute)
		if n := len(client.Nodes()); n < known-30 || n < known/3 {
			t.Errorf("%d of %d nodes left after two minutes without a network", n, known)
		}
		client.FindNode(ID{2}, QueryOptions{Retries: -1}).Run(t.Context())
		h.SetUp(true)
		q := client.FindNode(ID{3}, QueryOptions{})
		if err := q.Run(t.Context()); err != nil || len(q.Closest()) != K {
			t.Errorf("afterwards %d closest: %v", len(q.Closest()), err)
		}
	})
}

// When all that a node knows had fallen silent, they are asked after all.
func TestSilentNodesAreAskedIfNobodyElseIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 10)
		client := tn.add(Config{Ephemeral: Always})
		client.Do(func() {
			for n := range client.core.table.All() {
				client.core.silent.Put(time.Now(), n.Addr, silence{sure: true}, struct{}{})
			}
		})
		q := client.FindNode(ID{3}, QueryOptions{})
		if err := q.Run(t.Context()); err != nil || len(q.Closest()) < 9 {
			t.Errorf("%d closest: %v", len(q.Closest()), err)
		}
	})
}

// However many are late, few are checked at a time, and a bounded number is
// remembered.
func TestSuspectsAreBounded(t *testing.T) {
	tc := newTestCore(t, Config{MaxWindow: 1 << 20})
	for i := range 2 * maxSilent {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 1}), 5000)
		tc.c.suspect(contactOf(a), nil, tc.c.now)
	}
	if n := len(tc.out()); n != maxSuspect || len(tc.c.suspects) != maxSuspect {
		t.Errorf("%d pings, %d under way, want %d", n, len(tc.c.suspects), maxSuspect)
	}
	if n := tc.c.silent.Len(); n != maxSilent {
		t.Errorf("%d remembered, want %d", n, maxSilent)
	}
	// Nobody has answered: nobody is sure to be silent.
	tc.advance(10 * time.Second)
	if len(tc.c.suspects) != 0 {
		t.Errorf("%d still under way", len(tc.c.suspects))
	}
	for _, s := range tc.c.silent.All() {
		if s.sure {
			t.Fatal("silence is taken for sure though nobody answered")
		}
	}
}

// One that has gone makes a node check the others of its network, and some more;
// others are not told of those that are being checked.
func TestOneGoneLeadsToOthers(t *testing.T) {
	tc := newTestCore(t, Config{MaxWindow: 1000})
	tc.c.bootstrapped, tc.c.ephemeral = true, false
	for i := range 60 {
		tc.c.addNode(netip.MustParseAddrPort(fmt.Sprintf("20.%d.0.1:5000", i)))
	}
	for i := range 100 {
		tc.c.addNode(netip.MustParseAddrPort(fmt.Sprintf("93.184.216.%d:5000", i+1)))
	}
	tc.c.tick += 5
	ofNet := func() (n int) {
		for x := range tc.c.table.All() {
			if x.Addr.Addr().As4()[0] == 93 {
				n++
			}
		}
		return n
	}
	if n := ofNet(); n < 4 {
		t.Fatalf("%d of the network in the table", n)
	}
	before := ofNet()
	var gone netip.AddrPort
	for x := range tc.c.table.All() {
		if x.Addr.Addr().As4()[0] == 93 {
			gone = x.Addr
		}
	}
	tc.c.suspect(contactOf(gone), nil, time.Time{})
	tc.c.answeredAt = tc.c.now
	tc.out()
	tc.advance(4 * time.Second)
	pings := map[netip.AddrPort]bool{}
	same := 0
	for _, d := range tc.out() {
		if !pings[d.Peer] && d.Peer != gone && d.Peer.Addr().As4()[0] == 93 {
			same++
		}
		pings[d.Peer] = true
	}
	if same != before-1 || len(pings) < before+2 || len(pings) > before+moreChecks {
		t.Errorf("%d of %d others of the network checked, %d in all", same, before-1, len(pings))
	}
	named := tc.c.closest(&ID{})
	for i := range named.Len() {
		if pings[named.At(i)] {
			t.Errorf("%v is named though it is being checked", named.At(i))
		}
	}
}

// A node that was only busy for a while, so that its pings were in vain, is found
// again soon after another node names it, without being asked for.
func TestBusyNodeIsFoundAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 40)
		client := tn.add(Config{Ephemeral: Always})
		h := tn.net.Host()
		busy, err := Listen(Config{Network: h, Port: 5000, ExactPort: true, Ephemeral: Never, Bootstrap: []string{tn.addr().String()}})
		if err != nil {
			t.Fatal(err)
		}
		defer busy.Close()
		tn.ready(busy)
		at := busy.PublicAddr()
		for _, n := range tn.nodes {
			n.AddNode(at)
		}
		find := func() bool {
			t.Helper()
			q := client.FindNode(IDOf(at), QueryOptions{})
			if err := q.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			return len(q.Closest()) > 0 && q.Closest()[0].Addr == at
		}
		if !find() {
			t.Fatal("it is not found at first")
		}
		h.SetUp(false)
		for range 3 {
			if find() {
				t.Fatal("it is found while it is gone")
			}
			time.Sleep(2 * time.Second)
		}
		h.SetUp(true)
		start := time.Now()
		for !find() {
			if time.Since(start) > 20*time.Second {
				t.Fatal("it is not found again")
			}
			time.Sleep(time.Second)
		}
		t.Logf("found again after %v", time.Since(start))
	})
}

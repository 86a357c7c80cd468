package mainline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/bencode"
)

// id is 20 times a byte, with its key and value before it.
func idOf(c byte) string { return "2:id20:" + strings.Repeat(string(rune(c)), 20) }

// enter makes the actor a node of the table.
func (a *actor) enter(c byte) {
	a.s.Helper()
	added := make(chan struct{})
	go func() {
		defer close(added)
		a.s.node.AddNode(a.s.Context(), a.addr)
	}()
	a.answer("ping", func(*message) string { return idOf(c) })
	<-added
	if k := toKey(bytes.Repeat([]byte{c}, 20)); !slices.ContainsFunc(a.s.node.Nodes(), func(x Contact) bool { return x.ID.key == k }) {
		a.s.Fatalf("%c is not in the table: %v", c, a.s.node.Nodes())
	}
}

// live answers every query from now on, with no more than an id, until stop is
// called; asked returns the methods of them.
func (a *actor) live(c byte) (stop func(), asked func() []string) {
	ended := make(chan struct{})
	done := make(chan []string, 1)
	var methods []string
	go func() {
		defer func() { done <- methods }()
		for {
			select {
			case <-ended:
				return
			case d := <-a.got:
				var m message
				if m.parse(d.Payload) == nil && m.kind == 'q' {
					methods = append(methods, string(m.method))
					a.send(append(append([]byte("d1:rd"+idOf(c)+"e1:t2:"), m.t...), "1:y1:re"...))
				}
			}
		}
	}()
	stop = sync.OnceFunc(func() { close(ended) })
	return stop, func() []string {
		stop()
		list := <-done
		done <- list
		return list
	}
}

func TestOddInputs(t *testing.T) {
	for _, v := range load(t).Compact.OddInputs {
		t.Run(v.Name, func(t *testing.T) {
			play(t, nil, func(s *stage) {
				a := s.actor()
				a.enter('P')
				reply, err := bencode.Append(nil, notation(t, v.ReplyR))
				if err != nil {
					t.Fatal(err)
				}
				// The vectors name nodes on loopback, which a node on a public
				// address may not: move them to one.
				b := s.actor()
				reply = bytes.Replace(reply, []byte("\x7f\x00\x00\x01\x88\x2a"), appendAddr(nil, b.addr), 1)
				var got []netip.AddrPort
				done := make(chan struct{})
				go func() {
					defer close(done)
					for p := range s.node.Lookup(hashOf("x")).Peers(s.Context()) {
						got = append(got, p.Addr)
					}
				}()
				a.answer("get_peers", func(*message) string { return string(reply[1 : len(reply)-1]) })
				asked := b.receive() != nil
				<-done
				if v.NodeQueried != nil && asked != *v.NodeQueried {
					t.Errorf("the node was asked: %v", asked)
				}
				want := v.PeersEmitted
				switch {
				case strings.HasPrefix(v.Name, "values: 18-byte"): // we read those
					want = []netip.AddrPort{netip.MustParseAddrPort("[2001:db8:100::1]:6881")}
				case strings.HasPrefix(v.Name, "values: 5-byte"): // and go on behind these
					want = append(want, netip.MustParseAddrPort("1.2.3.5:6881"))
				}
				if v.NodeQueried == nil && !slices.Equal(got, want) {
					t.Errorf("peers %v, want %v", got, want)
				}
			})
		})
	}
}

// TestTableNeedsProof: who sends a query enters the table only after it has
// answered a ping, and read-only nodes never do.
func TestTableNeedsProof(t *testing.T) {
	play(t, nil, func(s *stage) {
		a, ro := s.actor(), s.actor()
		ping := krpc(t, map[string]any{"a": map[string]any{"id": strings.Repeat("A", 20)}, "q": "ping", "t": "aa", "y": "q"})
		a.send(ping)
		var m message
		for m.kind != 'q' {
			if err := m.parse(a.receive()); err != nil {
				t.Fatal(err)
			}
		}
		if len(s.node.Nodes()) != 0 {
			t.Errorf("it is in the table: %v", s.node.Nodes())
		}
		a.send(append(append([]byte("d1:rd"+idOf('A')+"e1:t2:"), m.t...), "1:y1:re"...))
		time.Sleep(time.Second)
		if got := s.node.Nodes(); len(got) != 1 || got[0].Addr != a.addr {
			t.Errorf("after its answer: %v", got)
		}
		ro.send(newQuery(t, "ping", map[string]any{"id": strings.Repeat("B", 20)}))
		if d := ro.receive(); !bytes.HasSuffix(d, []byte("1:y1:re")) {
			t.Errorf("the read-only node was answered with %q", d)
		}
		if d := ro.receive(); d != nil {
			t.Errorf("the read-only node was asked %q", d)
		}
		// A silent one is pinged twice, and then not again for a while.
		mute := s.actor()
		mute.send(krpc(t, map[string]any{"a": map[string]any{"id": strings.Repeat("C", 20)}, "q": "ping", "t": "aa", "y": "q"}))
		time.Sleep(10 * time.Second)
		mute.send(krpc(t, map[string]any{"a": map[string]any{"id": strings.Repeat("C", 20)}, "q": "ping", "t": "aa", "y": "q"}))
		time.Sleep(10 * time.Second)
		if got := len(mute.got); got != 4 { // two answers and a ping sent twice
			t.Errorf("the mute node got %d datagrams", got)
		}
	})
}

// TestForeignAnswers: an answer counts only with the right transaction id from
// the right address, and only once.
func TestForeignAnswers(t *testing.T) {
	play(t, nil, func(s *stage) {
		a, b := s.actor(), s.actor()
		done := make(chan error)
		go func() {
			_, err := s.node.Ping(s.Context(), a.addr)
			done <- err
		}()
		var m message
		if err := m.parse(a.receive()); err != nil {
			t.Fatal(err)
		}
		reply := append(append([]byte("d1:rd"+idOf('A')+"e1:t2:"), m.t...), "1:y1:re"...)
		b.send(reply)
		a.send(append(append([]byte("d1:rd"+idOf('A')+"e1:t2:"), m.t[0], m.t[1]+1), "1:y1:re"...))
		a.send(append(append([]byte("d1:rd"+idOf('A')+"e1:t1:"), m.t[0]), "1:y1:re"...))
		a.send([]byte("d1:rd" + idOf('A') + "e1:y1:re"))
		if err := <-done; !errors.Is(err, ErrTimeout) {
			t.Errorf("ping: %v", err)
		}
		a.send(reply) // too late
		time.Sleep(time.Second)
		if got := s.node.Nodes(); len(got) != 0 {
			t.Errorf("in the table: %v", got)
		}
		if st := s.node.Stats(); st.Dropped.Unexpected != 4 || st.TimedOut != 1 || st.Inflight != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestAnotherIDAnswers(t *testing.T) {
	play(t, nil, func(s *stage) {
		a := s.actor()
		a.enter('A')
		l := s.node.Lookup(hashOf("x"))
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range l.Peers(s.Context()) {
			}
		}()
		a.answer("get_peers", func(*message) string { return idOf('B') + "5:token2:tk" })
		<-done
		if got := s.node.Nodes(); len(got) != 1 || got[0].ID.key != toKey(bytes.Repeat([]byte("B"), 20)) {
			t.Errorf("the table holds %v", got)
		}
		if r := l.Result(); r.Replied != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// TestSilentNodeLeaves: a node of the table that does not answer a lookup is
// pinged twice and removed, unless nobody answers anything.
func TestSilentNodeLeaves(t *testing.T) {
	play(t, nil, func(s *stage) {
		a, b := s.actor(), s.actor()
		a.enter('A')
		b.enter('B')
		stop, _ := b.live('B')
		for range s.node.Lookup(hashOf("x")).Peers(s.Context()) {
		}
		time.Sleep(2*giveUp + time.Second) // of the query and of the pings
		if got := s.node.Nodes(); len(got) != 1 || got[0].Addr != b.addr {
			t.Errorf("the table holds %v", got)
		}
		if got := len(a.got); got != 3 { // a query and two pings
			t.Errorf("%d datagrams", got)
		}
		time.Sleep(5 * time.Minute)
		stop()
		time.Sleep(time.Hour) // now b is silent as well: then it is us
		if got := s.node.Nodes(); len(got) != 1 {
			t.Errorf("after an hour alone the table holds %v", got)
		}
	})
}

func TestQuestionableNodesArePinged(t *testing.T) {
	play(t, nil, func(s *stage) {
		a := s.actor()
		a.enter('A')
		stop, asked := a.live('A')
		defer stop()
		time.Sleep(20 * time.Minute)
		if got := asked(); !slices.Contains(got, "ping") && !slices.Contains(got, "get_peers") {
			t.Errorf("after 20 minutes it was asked %v", got)
		}
		if got := asked(); len(got) > 20 {
			t.Errorf("in 20 minutes it was asked %d times: %v", len(got), got)
		}
	})
}

func TestFullBucket(t *testing.T) {
	n, _ := direct(t, func(c *Config) { c.ID = testID })
	n.mu.Lock()
	defer n.mu.Unlock()
	r := &n.sockets[0].routes
	var entered point
	r.entered = func(c point) { entered = c }
	now := time.Now()
	at := func(i int) point {
		return point{ID: key{0x80, byte(i)}, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i)}), 1)}
	}
	for i := range K {
		if r.answered(now, at(i), time.Hour); entered != at(i) {
			t.Fatalf("%d was not added", i)
		}
	}
	if doubtful := r.answered(now, at(8), time.Hour); entered == at(8) || doubtful != nil {
		t.Errorf("a newcomer to a bucket of good nodes: %v, %v", entered, doubtful)
	}
	if doubtful := r.answered(now.Add(time.Hour), at(9), time.Hour); entered == at(9) || doubtful == nil || doubtful.ID != at(0).ID {
		t.Errorf("a newcomer to a bucket of questionable nodes: %v, %v", entered, doubtful)
	}
	r.remove(now, at(0).ID) // it did not answer: the latest spare takes its place
	if r.table.Get(at(9).ID) == nil || r.table.Len() != K || entered != at(9) {
		t.Error("the latest newcomer did not move up")
	}
	r.table.Get(at(1).ID).Data.failed = true
	if r.answered(now, at(10), time.Hour); entered != at(10) || r.table.Get(at(1).ID) != nil {
		t.Error("a newcomer did not replace a bad node")
	}
	// One id an endpoint, and one endpoint an id.
	moved := at(10)
	moved.Addr = netip.MustParseAddrPort("127.0.9.9:1")
	if doubtful := r.answered(now, moved, time.Hour); entered == moved || doubtful == nil || doubtful.Addr != at(10).Addr {
		t.Errorf("a known id at another address: %v, %v", entered, doubtful)
	}
	other := point{ID: key{0x40}, Addr: at(10).Addr}
	if r.answered(now, other, time.Hour); entered != other || r.table.Get(at(10).ID) != nil {
		t.Error("an endpoint has two ids")
	}
}

// TestSubnets: of one public /24 few nodes enter the table, of private ones all.
func TestSubnets(t *testing.T) {
	n, _ := direct(t, func(c *Config) { c.ID = testID })
	n.mu.Lock()
	defer n.mu.Unlock()
	r := &n.sockets[0].routes
	for i := range 200 {
		var k key
		randomize(k[:shortID], n.rnd)
		r.answered(time.Now(), point{ID: k, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{20, 0, 0, byte(i)}), 1)}, time.Hour)
	}
	if got := r.table.Len(); got > subnetInTable || got < subnetInBucket {
		t.Errorf("%d nodes of one public network", got)
	}
	public := r.table.Len()
	for i := range 200 {
		var k key
		randomize(k[:shortID], n.rnd)
		r.answered(time.Now(), point{ID: k, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 0, byte(i)}), 1)}, time.Hour)
	}
	if got := r.table.Len() - public; got < 3*K {
		t.Errorf("%d nodes of one private network", got)
	}
}

// TestPrivateAddressesFromStrangers: a public node may not name machines of a
// private network.
func TestPrivateAddressesFromStrangers(t *testing.T) {
	public, private := netip.MustParseAddr("20.0.0.1"), netip.MustParseAddr("192.168.1.1")
	for _, c := range []struct {
		addr string
		from netip.Addr
		want bool
	}{
		{"8.8.8.8:53", public, true}, {"8.8.8.8:0", public, false}, {"127.0.0.1:1", public, false}, {"10.0.0.1:1", public, false},
		{"192.168.7.7:1", private, true}, {"224.0.0.1:1", private, false}, {"255.255.255.255:1", private, false},
		{"0.0.0.0:1", private, false}, {"0.1.2.3:1", private, false}, {"[ff02::1]:1", private, false}, {"[::]:1", private, false},
		{"[::1]:1", public, false}, {"[::1]:1", private, true}, {"[fe80::1]:1", public, false}, {"[2001:db8::1]:1", public, true},
		{"[::ffff:1.2.3.4]:1", public, false},
	} {
		if got := routable(netip.MustParseAddrPort(c.addr), c.from); got != c.want {
			t.Errorf("routable(%s, %v) = %v", c.addr, c.from, got)
		}
	}
}

// TestVote: five networks that agree on our address make us take an id that
// belongs to it (BEP 42); one network with many voices does not.
func TestVote(t *testing.T) {
	n, _ := direct(t, nil)
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.sockets[0]
	before := s.id
	says := appendAddr(nil, netip.MustParseAddrPort("124.31.75.21:6881"))
	for i := range 100 {
		s.vote(time.Now(), says, netip.AddrFrom4([4]byte{20, 0, byte(i), 1}))
	}
	if s.id != before {
		t.Fatal("one network decided")
	}
	for i := range 4 {
		s.vote(time.Now(), says, netip.AddrFrom4([4]byte{20, byte(i + 1), 0, 1}))
	}
	if s.id == before || !secure(s.id, netip.MustParseAddr("124.31.75.21")) {
		t.Errorf("id %x", s.id[:shortID])
	}
	if s.routes.table.Own() != s.id {
		t.Error("the table is around another id")
	}
	if got := s.ballot.elected; got != netip.MustParseAddrPort("124.31.75.21:6881") {
		t.Errorf("elected %v", got)
	}
	after := s.id
	for i := range 40 { // a new address, and ports that differ
		s.vote(time.Now(), appendAddr(nil, netip.AddrPortFrom(netip.MustParseAddr("84.124.73.14"), uint16(i+1))), netip.AddrFrom4([4]byte{30, byte(i), 0, 1}))
	}
	if s.id == after || s.ballot.elected.Port() != 0 {
		t.Errorf("elected %v", s.ballot.elected)
	}
	s.vote(time.Now(), []byte("short"), netip.MustParseAddr("20.0.0.1"))
}

func TestAnnounceReusesTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 20)
		defer tn.close()
		n, hash := tn.nodes[5], hashOf("torrent")
		sent := func(f func() (Stored, error)) uint64 {
			before := n.Stats().Sent
			if st, err := f(); err != nil || st.N() == 0 || st.TimedOut+len(st.Refused) > 0 {
				t.Fatalf("%+v, %v", st, err)
			}
			return n.Stats().Sent - before
		}
		announce := func() (Stored, error) { return n.Announce(t.Context(), hash, AnnounceOptions{Port: 1}) }
		if got := sent(announce); got < 2*K {
			t.Errorf("the first announce took %d queries", got)
		}
		if got := sent(announce); got != K {
			t.Errorf("the second announce took %d queries", got)
		}
		time.Sleep(5*time.Minute + time.Second)
		if got := sent(announce); got < 2*K {
			t.Errorf("after five minutes an announce took %d queries", got)
		}
		// Tokens that the nodes have forgotten: the announce looks anew.
		for _, x := range tn.nodes {
			x.mu.Lock()
			x.sockets[0].tokens.Set(time.Now(), [32]byte{1}, [32]byte{2})
			x.mu.Unlock()
		}
		if got := sent(announce); got < 3*K {
			t.Errorf("with old tokens an announce took %d queries", got)
		}
		// A lookup's tokens serve as well, and implied ports are the source's.
		other := tn.nodes[7]
		for range other.Lookup(hash).Peers(t.Context()) {
		}
		before := other.Stats().Sent
		if _, err := other.Announce(t.Context(), hash, AnnounceOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := other.Stats().Sent - before; got != K {
			t.Errorf("after a lookup an announce took %d queries", got)
		}
		var peers []netip.AddrPort
		for p := range tn.nodes[9].Lookup(hash).Peers(t.Context()) {
			peers = append(peers, p.Addr)
		}
		if !slices.Contains(peers, other.Addr()) || !slices.Contains(peers, netip.AddrPortFrom(n.Addr().Addr(), 1)) || len(peers) != 2 {
			t.Errorf("peers %v", peers)
		}
	})
}

func TestHost(t *testing.T) {
	play(t, func(c *Config) { c.Host = netip.MustParseAddr("20.1.2.3") }, func(s *stage) {
		if _, err := s.node.Announce(s.Context(), hashOf("x"), AnnounceOptions{}); !errors.Is(err, ErrNoNodes) {
			t.Errorf("announce: %v", err)
		}
		var got []Peer
		for p := range s.node.Lookup(hashOf("x")).Peers(s.Context()) {
			got = append(got, p)
		}
		if want := netip.AddrPortFrom(netip.MustParseAddr("20.1.2.3"), s.node.Addr().Port()); len(got) != 1 || got[0].Addr != want || got[0].From.Addr.IsValid() {
			t.Errorf("peers %v, want %v", got, want)
		}
	})
}

func TestLookupStopsWhenLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 30)
		defer tn.close()
		hash := hashOf("torrent")
		for i := range 5 {
			if _, err := tn.nodes[i].Announce(t.Context(), hash, AnnounceOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		l := tn.nodes[20].Lookup(hash)
		for range l.Peers(t.Context()) {
			break
		}
		if l.Err() != nil || l.Result().Peers != 1 {
			t.Errorf("%+v, %v", l.Result(), l.Err())
		}
		if got := tn.nodes[20].Stats().Tokens; got != 0 { // of nodes on the way
			t.Errorf("the tokens of %d lookups are remembered", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		l = tn.nodes[20].Lookup(hash, LookupOptions{NoLocal: true})
		for p := range l.Peers(ctx) {
			t.Errorf("found %v", p)
		}
		if !errors.Is(l.Err(), context.Canceled) {
			t.Errorf("err = %v", l.Err())
		}
		if got := tn.nodes[20].Stats().Inflight; got != 0 {
			t.Errorf("%d queries hold a slot", got)
		}
		if _, err := tn.nodes[20].Announce(t.Context(), ID{}, AnnounceOptions{}); err == nil {
			t.Error("no id is an id")
		}
	})
}

func TestScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 40)
		defer tn.close()
		hash := hashOf("torrent")
		for i := range 20 {
			if _, err := tn.nodes[i].Announce(t.Context(), hash, AnnounceOptions{Port: 1, Seed: i < 5}); err != nil {
				t.Fatal(err)
			}
		}
		r, err := tn.nodes[30].Scrape(t.Context(), hash)
		if err != nil || r.Seeds < 4.5 || r.Seeds > 5.5 || r.Downloaders < 14 || r.Downloaders > 16 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestConcurrencyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 30, func(i int, c *Config) {
			if i == 29 {
				c.Concurrency = 3
			}
		})
		defer tn.close()
		n := tn.nodes[29]
		done := make(chan struct{})
		for i := range 10 {
			go func() {
				if _, err := n.Put(t.Context(), Item{Value: StringValue(fmt.Sprint(i))}); err != nil {
					t.Error(err)
				}
				done <- struct{}{}
			}()
		}
		for left := 10; left > 0; {
			select {
			case <-done:
				left--
			case <-time.After(3 * time.Millisecond):
				if got := n.Stats().Inflight; got > 3 {
					t.Errorf("%d in flight", got)
				}
			}
		}
		if got := n.Stats().Inflight; got != 0 {
			t.Errorf("%d in flight at the end", got)
		}
	})
}

package dhtrpc

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/kad"
	"github.com/warren-dht/warren/udp"
)

// The tests of this file attack a node of a network of public addresses, with
// its limits on.

// An attacker sends datagrams to a node under any source address.
type attacker struct {
	t    *testing.T
	rand *rand.Rand
	node *Node
	to   netip.AddrPort
}

func newAttacker(t *testing.T, n *Node) *attacker {
	return &attacker{t: t, rand: rand.New(rand.NewPCG(3, 4)), node: n, to: n.PublicAddr()}
}

// from hands the node a datagram as if it had come from an address.
func (a *attacker) from(src netip.AddrPort, payload []byte) {
	a.node.HandleBatch(a.node.ServerConn(), []udp.Datagram{{Payload: payload, Peer: src}})
}

// public is a random public address.
func (a *attacker) public() netip.AddrPort {
	for {
		ip := netip.AddrFrom4([4]byte{byte(a.rand.IntN(224)), byte(a.rand.IntN(256)), byte(a.rand.IntN(256)), byte(1 + a.rand.IntN(254))})
		if _, public := kad.Subnet(ip); public && usable(netip.AddrPortFrom(ip, 1)) {
			return netip.AddrPortFrom(ip, uint16(1024+a.rand.IntN(60000)))
		}
	}
}

// heap is the memory in use, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// unharmed checks what must hold after any attack: the node answers, knows the
// honest nodes, and has not grown.
func (tn *testNet) unharmed(victim *Node, before int64) {
	tn.t.Helper()
	if grown := heap() - before; grown > 16<<20 {
		tn.t.Errorf("memory has grown by %d KB", grown>>10)
	}
	if _, err := tn.first.Ping(tn.t.Context(), victim.PublicAddr()); err != nil {
		tn.t.Errorf("the node does not answer any more: %v", err)
	}
	target := ID{5}
	q := victim.FindNode(target, QueryOptions{})
	if err := q.Run(tn.t.Context()); err != nil {
		tn.t.Fatal(err)
	}
	want := tn.closest(target, victim)
	for i, c := range q.Closest() {
		if c.ID != want[i] {
			tn.t.Fatalf("closest node %d is %v, want %v", i, c.ID, want[i])
		}
	}
}

// honest counts the nodes of the victim's table that are members of the network.
func (tn *testNet) honest(victim *Node) (honest, others int) {
	for _, c := range victim.Nodes() {
		if slices.ContainsFunc(tn.nodes, func(n *Node) bool { return n.PublicAddr() == c.Addr }) {
			honest++
		} else {
			others++
		}
	}
	return honest, others
}

// Forged source addresses, each with the id that belongs to it, do not enter the
// table: none of them answers the ping that asks for it.
func TestSpoofedSources(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 25)
		victim := tn.nodes[7]
		time.Sleep(time.Minute)
		before := heap()
		known, _ := tn.honest(victim)
		public := victim.PublicAddr()
		a := newAttacker(t, victim)
		for i := range 20000 {
			src := a.public()
			id := IDOf(src)
			a.from(src, (&request{tid: uint16(i), to: a.public(), id: &id, internal: true, command: uint64(i % 5), target: &id, value: make([]byte, 8)}).append(nil))
			if i%100 == 0 {
				time.Sleep(50 * time.Millisecond)
			}
		}
		time.Sleep(time.Minute)
		if honest, others := tn.honest(victim); others != 0 || honest < known {
			t.Errorf("%d honest nodes of %d, %d others", honest, known, others)
		}
		if victim.PublicAddr() != public || victim.Ephemeral() {
			t.Errorf("public address %v, was %v", victim.PublicAddr(), public)
		}
		tn.unharmed(victim, before)
	})
}

// An id that is not the hash of its address counts for nothing, be it in
// requests or in replies.
func TestForgedIDs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 25)
		victim := tn.nodes[7]
		before := heap()
		a := newAttacker(t, victim)
		near := victim.TableID()
		for i := range 10000 {
			near[31], near[30] = byte(i), byte(i>>8)
			a.from(a.public(), (&request{tid: uint16(i), to: a.to, id: &near, internal: true}).append(nil))
			a.from(a.public(), (&reply{tid: uint16(i), to: a.to, id: &near}).append(nil))
		}
		time.Sleep(time.Minute)
		if _, others := tn.honest(victim); others != 0 {
			t.Errorf("%d strangers in the table", others)
		}
		tn.unharmed(victim, before)
	})
}

// A token is worth nothing from another address, or later.
func TestReplayedTokens(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		h := new(counter)
		victim := tn.add(Config{Ephemeral: Never, Handler: h})
		r, err := tn.first.Request(t.Context(), victim.PublicAddr(), Message{Command: 1})
		if err != nil {
			t.Fatal(err)
		}
		a := newAttacker(t, victim)
		m := &request{to: a.to, token: r.Token, command: 1}
		for range 5000 {
			a.from(a.public(), m.append(nil))
		}
		time.Sleep(time.Minute)
		for range 100 {
			a.from(tn.addr(), m.append(nil))
		}
		if n := h.committed.Load(); n != 0 {
			t.Errorf("%d replayed tokens were accepted", n)
		}
		if n := victim.Stats().Refused.Tokens; n != 5100 {
			t.Errorf("%d refusals counted", n)
		}
		if n := h.asked.Load(); n != 1 {
			t.Errorf("the handler was asked %d times", n)
		}
	})
}

// Datagrams that do not parse, and such as are only just wrong.
func TestMalformedDatagrams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 25)
		victim := tn.nodes[3]
		before, bad := heap(), victim.Stats().Bad.Malformed
		a := newAttacker(t, victim)
		id := IDOf(a.to)
		token := [32]byte{1}
		good := [][]byte{
			(&request{to: a.to, id: &id, token: &token, command: 70000, target: &id, value: make([]byte, 300)}).append(nil),
			(&reply{to: a.to, id: &id, token: &token, code: 70000, value: make([]byte, 300), closer: compact.AddrsOf(make([]byte, 120))}).append(nil),
		}
		for i := range 10000 {
			b := slices.Clone(good[i%2])
			switch i % 4 {
			case 0: // cut short
				b = b[:a.rand.IntN(len(b))]
			case 1: // random bits
				for range 1 + a.rand.IntN(8) {
					b[1+a.rand.IntN(len(b)-1)] ^= 1 << a.rand.IntN(8)
				}
			case 2: // noise
				for j := 2; j < len(b); j++ {
					b[j] = byte(a.rand.Uint32())
				}
			case 3: // a length of 2^32-1
				binary.LittleEndian.PutUint32(b[len(b)-303:], 0xfffffffe)
			}
			a.from(a.public(), b)
		}
		a.from(netip.AddrPortFrom(a.public().Addr(), 0), good[0])
		if s := victim.Stats().Bad; s.Malformed-bad < 4000 || s.Address != 1 {
			t.Errorf("counted %+v", s)
		}
		tn.unharmed(victim, before)
	})
}

// A flood of requests of every kind from one address is answered, and costs no
// memory.
func TestFlood(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 25)
		victim := tn.nodes[3]
		before := heap()
		a := newAttacker(t, victim)
		src := a.public()
		id := IDOf(src)
		for i := range 50000 {
			m := &request{tid: uint16(i), to: a.to, internal: true, command: uint64(i % 6), target: &id}
			switch m.command {
			case cmdDownHint:
				m.value = compact.AppendAddr(nil, tn.nodes[i%25].PublicAddr())
			case cmdDelayedPing:
				m.value = binary.LittleEndian.AppendUint32(nil, 10000)
			case cmdPingNAT:
				m.value = []byte{1, 2}
			}
			if i%7 == 0 {
				m.id = &id
			}
			if i%11 == 0 {
				m.token = &[32]byte{}
			}
			a.from(src, m.append(nil))
		}
		synctest.Wait()
		s := victim.Stats()
		if s.Refused.Limits == 0 {
			t.Error("no limit was reached")
		}
		victim.Do(func() {
			if n := len(victim.core.delayed.list); n > 16 {
				t.Errorf("%d delayed pings wait", n)
			}
		})
		if s.Requests.Active > 50 {
			t.Errorf("%d requests in flight", s.Requests.Active)
		}
		time.Sleep(time.Minute)
		if honest, others := tn.honest(victim); others != 0 || honest == 0 {
			t.Errorf("%d honest nodes, %d others", honest, others)
		}
		tn.unharmed(victim, before)
	})
}

// One /24 network full of nodes that do answer takes at most its share.
func TestOneNetworkCannotFillTheTable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 25)
		victim := tn.nodes[3]
		evil := tn.net.Host()
		conns := make([]udp.Conn, 0, 200)
		for i := range 200 {
			c, err := evil.Listen(netip.AddrPortFrom(evil.Addr(), uint16(20000+i)))
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			go udp.Serve(c, evilNode{})
			src := netip.AddrPortFrom(evil.Addr(), uint16(20000+i))
			id := IDOf(src)
			c.WriteBatch([]udp.Datagram{{Peer: victim.PublicAddr(), Payload: (&request{to: victim.PublicAddr(), id: &id, internal: true}).append(nil)}})
			time.Sleep(100 * time.Millisecond)
		}
		if _, others := tn.honest(victim); others == 0 || others > 32 {
			t.Errorf("%d of its nodes in the table, want at most 32", others)
		}
		for _, c := range conns {
			c.Close()
		}
	})
}

// evilNode answers pings with its id.
type evilNode struct{}

func (evilNode) HandleBatch(c udp.Conn, batch []udp.Datagram) []udp.Datagram {
	for _, d := range batch {
		if m, err := parseRequest(d.Payload); err == nil {
			id := IDOf(m.to) // as the asker sees it
			c.WriteBatch([]udp.Datagram{{Peer: d.Peer, Payload: (&reply{tid: m.tid, to: d.Peer, id: &id}).append(nil)}})
		}
	}
	return nil
}

// What an unverified request draws: at most four times its size for the
// protocol's own commands, all datagrams to that address together, and one
// datagram of 1,232 bytes otherwise.
func TestReplyFactor(t *testing.T) {
	h := HandlerFunc(func(r *Request) bool { return r.Reply(make([]byte, 1100)) == nil })
	tc := newTestCore(t, Config{Handler: h})
	c := tc.c
	c.ephemeral = false
	for i := range 200 {
		c.addNode(netip.AddrPortFrom(netip.AddrFrom4([4]byte{60, byte(i), 1, 1}), 5000))
	}
	src := netip.MustParseAddrPort("93.184.216.34:5000")
	id, token := IDOf(src), [32]byte{}
	worst := 0.0
	for command := range uint64(8) {
		for flags := range 16 {
			for _, value := range [][]byte{nil, {}, {1, 2}, {1, 2, 0, 0}, {60, 1, 1, 1, 0x88, 0x13}} {
				m := &request{to: src, internal: flags&8 == 0, command: command, value: value}
				if flags&1 != 0 {
					m.id = &id
				}
				if flags&2 != 0 {
					m.token = &token
				}
				if flags&4 != 0 {
					m.target = &id
				}
				c.table.Remove(id)
				c.proving = nil
				sent, drawn := m.append(nil), 0
				tc.in(src.String(), sent)
				tc.advance(5 * time.Second) // retransmissions, delayed answers
				for _, d := range tc.out() {
					if d.Peer.Addr() == src.Addr() {
						drawn += len(d.Payload)
						if len(d.Payload) > DefaultMaxReply {
							t.Errorf("a reply of %d bytes", len(d.Payload))
						}
					}
				}
				if !m.internal {
					if drawn > DefaultMaxReply+2*43 {
						t.Errorf("command %d, flags %d: %d bytes draw %d", command, flags, len(sent), drawn)
					}
					continue
				}
				worst = max(worst, float64(drawn)/float64(len(sent)))
				if drawn > 4*len(sent) {
					t.Errorf("command %d, flags %d, value %x: %d bytes draw %d", command, flags, value, len(sent), drawn)
				}
			}
		}
	}
	if worst < 3 {
		t.Errorf("the worst factor is %.2f: the test does not test", worst)
	}
}

// A flood of forged sources, none of which answers its verification, does not
// make the node believe that it is offline.
func TestSpoofedSourcesAndHealth(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 25)
		victim := tn.nodes[7]
		time.Sleep(time.Minute)
		a := newAttacker(t, victim)
		for i := range 1200 {
			src := a.public()
			id := IDOf(src)
			a.from(src, (&request{tid: uint16(i), to: a.to, id: &id, internal: true}).append(nil))
			time.Sleep(50 * time.Millisecond)
			if h := victim.Health(); !h.Online || h.Degraded {
				t.Fatalf("after %d forged requests: %+v", i+1, h)
			}
		}
		if n := victim.Stats().Requests.Timeouts; n < 200 {
			t.Errorf("%d timeouts: the test does not test", n)
		}
	})
}

// A node that was asked answers under the source address of another, with the
// id that belongs to it. The other enters the table only when it has answered
// for itself, has no say about our address, and is not among a query's closest.
func TestRepliesUnderForgedSources(t *testing.T) {
	tc := newTestCore(t, Config{})
	const asked, forged = "60.0.0.1:5000", "61.0.0.1:5000"
	var from netip.AddrPort
	o := outgoing{to: netip.MustParseAddrPort(asked), done: func(r *Reply, err error) { from = r.From }}
	if _, err := tc.c.request(&request{command: 1}, o, 0, nil); err != nil {
		t.Fatal(err)
	}
	m, err := parseRequest(tc.out()[0].Payload)
	if err != nil {
		t.Fatal(err)
	}
	id := IDOf(netip.MustParseAddrPort(forged))
	tc.in(forged, (&reply{tid: m.tid, to: netip.MustParseAddrPort("93.184.216.34:1"), id: &id}).append(nil))
	if from.String() != forged {
		t.Errorf("the reply of a user command was not delivered: from %v", from)
	}
	if tc.c.table.Len() != 0 || tc.c.nat.Len() != 0 {
		t.Errorf("%d nodes in the table, %d samples of our address", tc.c.table.Len(), tc.c.nat.Len())
	}
	tid := tc.wantRequest("a stranger is verified", cmdPing, forged)
	tc.in(forged, pong(forged, tid, true))
	if tc.c.table.Get(id) == nil {
		t.Error("a stranger that has answered for itself is not in the table")
	}

	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		client := tn.add(Config{Ephemeral: Always})
		liar := tn.net.Host()
		at := netip.AddrPortFrom(liar.Addr(), 7000)
		conn, err := liar.Listen(at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go udp.Serve(conn, forger{client, netip.MustParseAddrPort(forged)})
		target := id
		q := client.Query(Message{Command: 1, Target: &target}, QueryOptions{Nodes: []netip.AddrPort{at}, OnlyClosest: true})
		replies := 0
		for r, err := range q.Replies(t.Context()) {
			if err != nil || r.From.String() != forged || r.FromID == nil {
				t.Errorf("reply %+v, error %v", r, err)
			}
			replies++
		}
		if n := len(q.Closest()); n != 0 || replies != 1 {
			t.Errorf("%d replies, %d forged nodes among the closest", replies, n)
		}
	})
}

// forger answers a node's requests under the source address of another.
type forger struct {
	victim *Node
	source netip.AddrPort
}

func (f forger) HandleBatch(_ udp.Conn, batch []udp.Datagram) []udp.Datagram {
	id := IDOf(f.source)
	for _, d := range batch {
		if m, err := parseRequest(d.Payload); err == nil {
			p := (&reply{tid: m.tid, to: d.Peer, id: &id}).append(nil)
			f.victim.HandleBatch(f.victim.Conn(), []udp.Datagram{{Payload: p, Peer: f.source}})
		}
	}
	return nil
}

// Whoever holds many ports of one network, all of them in the table, does not
// decide what the node believes its public address to be.
func TestLiarsAboutOurAddress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 7)
		victim := tn.add(Config{Ephemeral: Never, Limits: Limits{PerBucket: -1, PerTable: -1}})
		for range 17 {
			tn.add(Config{Ephemeral: Never})
		}
		time.Sleep(time.Minute)
		public := victim.PublicAddr()
		evil := tn.net.Host()
		for i := range 40 {
			src := netip.AddrPortFrom(evil.Addr(), uint16(20000+i))
			c, err := evil.Listen(src)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go udp.Serve(c, mistaken{src, netip.MustParseAddrPort("93.184.216.34:1234")})
			id := IDOf(src)
			c.WriteBatch([]udp.Datagram{{Peer: public, Payload: (&request{to: public, id: &id, internal: true}).append(nil)}})
			time.Sleep(100 * time.Millisecond)
		}
		if _, others := tn.honest(victim); others < 20 {
			t.Fatalf("%d liars in the table: the test does not test", others)
		}
		for range 240 {
			time.Sleep(5 * time.Second)
			if victim.PublicAddr() != public || victim.Ephemeral() {
				t.Fatalf("believes to be at %v, ephemeral %v; is at %v", victim.PublicAddr(), victim.Ephemeral(), public)
			}
		}
	})
}

// mistaken answers with its id and says that it sees us elsewhere.
type mistaken struct{ self, sees netip.AddrPort }

func (l mistaken) HandleBatch(c udp.Conn, batch []udp.Datagram) []udp.Datagram {
	id := IDOf(l.self)
	for _, d := range batch {
		if m, err := parseRequest(d.Payload); err == nil {
			c.WriteBatch([]udp.Datagram{{Peer: d.Peer, Payload: (&reply{tid: m.tid, to: l.sees, id: &id}).append(nil)}})
		}
	}
	return nil
}

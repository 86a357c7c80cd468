package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/kad"
	"github.com/warren-dht/warren/udp"
)

// A sybil is an attacker who has many ports of some addresses, each with the id
// that follows from it. It answers everything: as closer nodes it names its own,
// those nearest to the target, or whom it wants; it takes records and
// announcements, and forgets them.
type sybil struct {
	w      *world
	conns  map[netip.AddrPort]udp.Conn
	ids    []kad.Contact[dhtrpc.ID] // sorted by id
	silent atomic.Bool
	asked  atomic.Int64
	lie    atomic.Pointer[func(target dhtrpc.ID) []netip.AddrPort] // nil: its own
}

func (w *world) sybil(addrs []netip.Addr, ports int) *sybil {
	w.t.Helper()
	s := &sybil{w: w, conns: map[netip.AddrPort]udp.Conn{}}
	for _, a := range addrs {
		h := w.Internet.Segment.Host(a)
		for p := range ports {
			at := netip.AddrPortFrom(a, uint16(2000+p))
			conn, err := h.Listen(at)
			if err != nil {
				w.t.Fatal(err)
			}
			w.t.Cleanup(func() { conn.Close() })
			c := kad.Contact[dhtrpc.ID]{ID: dhtrpc.IDOf(at), Addr: at}
			s.ids = append(s.ids, c)
			s.conns[at] = conn
			go udp.Serve(conn, sybilNode{s, c})
		}
	}
	slices.SortFunc(s.ids, func(a, b kad.Contact[dhtrpc.ID]) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return s
}

func (s *sybil) owns(c dhtrpc.Contact) bool { return s.conns[c.Addr] != nil }

// nearest are the attacker's own 20 nodes nearest to a target: among those that
// share the longest prefix with it.
func (s *sybil) nearest(target dhtrpc.ID) []netip.AddrPort {
	i, _ := slices.BinarySearchFunc(s.ids, target, func(c kad.Contact[dhtrpc.ID], t dhtrpc.ID) int {
		return slices.Compare(c.ID[:], t[:])
	})
	near := slices.Clone(s.ids[max(0, i-40):min(len(s.ids), i+40)])
	slices.SortFunc(near, func(a, b kad.Contact[dhtrpc.ID]) int { return kad.Compare(target, a.ID, b.ID) })
	var out []netip.AddrPort
	for _, c := range near[:min(len(near), dhtrpc.K)] {
		out = append(out, c.Addr)
	}
	return out
}

// enter makes nodes of the network take the attacker's into their tables, as far
// as they do: so many ports greet each.
func (s *sybil) enter(ports int) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range s.w.Nodes {
		to := n.RPC().PublicAddr()
		for range ports {
			c := s.ids[r.IntN(len(s.ids))]
			b := append([]byte{0x03, 1 | 4, 0, 0}, compact.AppendAddr(nil, to)...)
			b = append(append(b, c.ID[:]...), 0)
			s.conns[c.Addr].WriteBatch([]udp.Datagram{{Payload: b, Peer: to}})
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(10 * time.Second)
}

// inTables counts the attacker's entries in the tables of the network.
func (s *sybil) inTables() (all, most int) {
	for _, n := range s.w.Nodes {
		k := 0
		for _, c := range n.RPC().Nodes() {
			if s.owns(c) {
				k++
			}
		}
		all, most = all+k, max(most, k)
	}
	return all, most
}

type sybilNode struct {
	*sybil
	self kad.Contact[dhtrpc.ID]
}

func (s sybilNode) HandleBatch(c udp.Conn, batch []udp.Datagram) []udp.Datagram {
	if s.silent.Load() {
		return nil
	}
	for _, d := range batch {
		r := compact.NewReader(d.Payload)
		if r.Uint8() != 0x03 {
			continue
		}
		flags, tid := r.Uint(), r.Uint16()
		r.Addr()
		for _, flag := range []uint64{1, 2} {
			if flags&flag != 0 {
				r.Fixed32()
			}
		}
		r.Uint()
		s.asked.Add(1)
		out := binary.LittleEndian.AppendUint16([]byte{0x13, 1 | 2}, tid)
		out = compact.AppendAddr(out, d.Peer)
		out = append(out, s.self.ID[:]...)
		out = append(out, make([]byte, 32)...) // a token
		if flags&8 != 0 {
			target := dhtrpc.ID(*r.Fixed32())
			closer := s.nearest(target)
			if lie := s.lie.Load(); lie != nil {
				closer = (*lie)(target)
			}
			out[1] |= 4
			out = compact.AppendAddrs(out, closer)
		}
		c.WriteBatch([]udp.Datagram{{Payload: out, Peer: d.Peer}})
	}
	return nil
}

// A survey is what became of a number of look-ups.
type survey struct {
	closest, owned, requests int
	durations                []time.Duration // sorted
}

func (s survey) median() time.Duration { return s.durations[len(s.durations)/2] }

func (s survey) String() string {
	return fmt.Sprintf("%d of %d closest nodes are the attacker's, %d requests, %v in the middle, %v at most",
		s.owned, s.closest, s.requests, s.median(), s.durations[len(s.durations)-1])
}

// survey looks random targets up; the attacker may be nil.
func (w *world) survey(n *hyperdht.Node, evil *sybil, lookups int) (s survey) {
	w.t.Helper()
	r := rand.New(rand.NewPCG(2, uint64(time.Now().UnixNano()))) // virtual time: the same in each run, and others each time
	for range lookups {
		var target dhtrpc.ID
		for i := range target {
			target[i] = byte(r.Uint32())
		}
		began, before := time.Now(), n.RPC().Stats().FindNode.Tx
		q := n.RPC().FindNode(target, dhtrpc.QueryOptions{})
		if err := q.Run(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		s.durations = append(s.durations, time.Since(began))
		s.requests += n.RPC().Stats().FindNode.Tx - before
		for _, c := range q.Closest() {
			s.closest++
			if evil != nil && evil.owns(c) {
				s.owned++
			}
		}
	}
	slices.Sort(s.durations)
	return s
}

// lose puts immutable records from one node and reads them from another. It
// returns how many are lost.
func (w *world) lose(from, to *hyperdht.Node, records int) (lost int) {
	w.t.Helper()
	for i := range records {
		s, err := from.ImmutablePut(w.t.Context(), fmt.Appendf(nil, "record %d", i), hyperdht.PutOptions{})
		if err != nil {
			w.t.Error(err)
			continue
		}
		if _, err := to.ImmutableGet(w.t.Context(), s.Target); err != nil {
			lost++
		}
	}
	return lost
}

// reach listens under fresh keys and dials them. It returns how many are reached.
func (w *world) reach(server, client *hyperdht.Node, keys int) (reached int) {
	w.t.Helper()
	for range keys {
		pair := hyperdht.GenerateKeyPair()
		l := w.serve(server, hyperdht.ListenConfig{KeyPair: &pair})
		ctx, cancel := context.WithTimeout(w.t.Context(), 15*time.Second)
		if conn, err := client.Dial(ctx, pair.Public); err == nil {
			reached++
			conn.Close()
		}
		cancel()
		l.Close()
	}
	return reached
}

// eclipseSizes are the honest nodes and the ports of an attacker's host.
func eclipseSizes() (honest, ports int) {
	if raceEnabled {
		return 60, 1000
	}
	return 100, 4000
}

// One host with 4,000 ports, in a network of 100 honest nodes in as many
// networks, has no more than its share of look-ups, of tables, and of what is
// stored. The race detector sees 1,000 ports and 60 nodes.
func TestOneHostIsOneVoice(t *testing.T) {
	honest, ports := eclipseSizes()
	inBubble(t, honest, func(w *world) {
		a, b := w.join(w.Internet.Host(), hyperdht.Config{}), w.join(w.Internet.Host(), hyperdht.Config{})
		server := w.join(w.Internet.Host(), hyperdht.Config{})
		calm := w.survey(a, nil, 40)
		evil := w.sybil([]netip.Addr{netip.MustParseAddr("8.0.0.1")}, ports)
		evil.enter(60)
		all, most := evil.inTables()
		t.Logf("%d entries of the attacker's in the tables, %d in one", all, most)
		if most > 10 || all == 0 {
			t.Errorf("%d entries of the attacker's in the tables, %d in one, want 1 to 10", all, most)
		}
		under := w.survey(a, evil, 40)
		t.Logf("before: %v; under attack: %v", calm, under)
		if 10*under.owned > under.closest || under.owned == 0 {
			t.Errorf("%v", under)
		}
		if under.median() > 2*calm.median() {
			t.Errorf("look-ups take %v, %v without the attack", under.median(), calm.median())
		}
		if lost := w.lose(a, b, 40); lost != 0 {
			t.Errorf("%d of 40 records lost", lost)
		}
		if n := w.reach(server, b, 10); n != 10 {
			t.Errorf("%d of 10 servers reached", n)
		}
	})
}

// A whole /24 is one voice as well. Sixteen of them are sixteen: they can have most
// of what is closest, and what is left is said in SECURITY.md.
func TestNetworksAreVoices(t *testing.T) {
	honest, _ := eclipseSizes()
	addrs := func(networks, each int) (out []netip.Addr) {
		for i := range networks {
			for j := range each {
				out = append(out, netip.AddrFrom4([4]byte{8, byte(i), 0, byte(j + 1)}))
			}
		}
		return out
	}
	for _, c := range []struct {
		name        string
		addrs       []netip.Addr
		ports       int
		most        int // per cent of the closest
		lost, found int // of 20 records, of 10 servers
	}{
		{"a /24", addrs(1, 250), 8, 10, 0, 10},
		{"four /24", addrs(4, 1), 500, 40, 0, 0},
		{"sixteen /24", addrs(16, 1), 125, 100, 20, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, honest, func(w *world) {
				a, b := w.join(w.Internet.Host(), hyperdht.Config{}), w.join(w.Internet.Host(), hyperdht.Config{})
				server := w.join(w.Internet.Host(), hyperdht.Config{})
				evil := w.sybil(c.addrs, c.ports)
				evil.enter(60)
				all, most := evil.inTables()
				under := w.survey(a, evil, 20)
				lost, reached := w.lose(a, b, 20), w.reach(server, b, 10)
				t.Logf("%d entries in the tables, %d in one; %v; %d of 20 records lost, %d of 10 servers reached", all, most, under, lost, reached)
				if 100*under.owned > c.most*under.closest || lost > c.lost || reached < c.found {
					t.Errorf("want at most %d %% of the closest, %d records lost, and %d servers reached", c.most, c.lost, c.found)
				}
			})
		})
	}
}

// An attacker who names addresses of the networks of honest nodes, nearer to the
// target than those, does not take their share: nobody answers there.
func TestLiesAboutHonestNetworks(t *testing.T) {
	honest, _ := eclipseSizes()
	inBubble(t, honest, func(w *world) {
		a, b := w.join(w.Internet.Host(), hyperdht.Config{}), w.join(w.Internet.Host(), hyperdht.Config{})
		calm := w.survey(a, nil, 20)
		evil := w.sybil([]netip.Addr{netip.MustParseAddr("8.0.0.1")}, 1000)
		evil.enter(60)
		// In each honest network, the nearest of a thousand ports of a neighbour.
		var next atomic.Int64
		lie := func(target dhtrpc.ID) (out []netip.AddrPort) {
			for range dhtrpc.K {
				n := w.Nodes[int(next.Add(1))%len(w.Nodes)].RPC().PublicAddr().Addr().As4()
				n[3] = 200
				best := netip.AddrPortFrom(netip.AddrFrom4(n), 1000)
				for p := range uint16(100) {
					if x := netip.AddrPortFrom(netip.AddrFrom4(n), 1001+p); kad.Compare(target, dhtrpc.IDOf(x), dhtrpc.IDOf(best)) < 0 {
						best = x
					}
				}
				out = append(out, best)
			}
			return out
		}
		evil.lie.Store(&lie)
		under := w.survey(a, evil, 20)
		t.Logf("before: %v; under attack: %v", calm, under)
		if under.closest != calm.closest || 10*under.owned > under.closest {
			t.Errorf("%v", under)
		}
		if lost := w.lose(a, b, 20); lost != 0 {
			t.Errorf("%d of 20 records lost", lost)
		}
	})
}

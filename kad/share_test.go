package kad

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/crypto/blake2b"
)

// A crowd is a simulated network: everybody names the 20 nearest that it knows,
// and every id is the hash of its address.
type crowd struct {
	all   []Contact[id32]
	names map[netip.AddrPort]func(target id32) []Contact[id32] // nil: does not answer
}

func at(a [4]byte, port int) Contact[id32] {
	addr := netip.AddrPortFrom(netip.AddrFrom4(a), uint16(port))
	return Contact[id32]{ID: id32(blake2b.Sum256(binary.LittleEndian.AppendUint16(a[:], addr.Port()))), Addr: addr}
}

func nearest(all []Contact[id32], target id32, n int) []Contact[id32] {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Contact[id32]) int { return Compare(target, a.ID, b.ID) })
	return all[:min(n, len(all))]
}

// add adds nodes that know all of the list.
func (c *crowd) add(nodes, known []Contact[id32]) {
	if c.names == nil {
		c.names = map[netip.AddrPort]func(id32) []Contact[id32]{}
	}
	c.all = append(c.all, nodes...)
	for _, n := range nodes {
		c.names[n.Addr] = func(target id32) []Contact[id32] { return nearest(known, target, 20) }
	}
}

// walk looks a target up, in rounds of a round trip; who does not answer is late
// in the next one. It returns who was asked.
func (c *crowd) walk(l *Lookup[id32], seeds ...Contact[id32]) (asked []Contact[id32]) {
	for _, s := range seeds {
		l.Offer(s, netip.AddrPort{})
	}
	for !l.Done() {
		var batch []Contact[id32]
		for x, ok := l.Next(); ok; x, ok = l.Next() {
			batch = append(batch, x)
		}
		if len(batch) == 0 {
			for _, x := range asked { // all that is left are late
				l.Down(x.Addr)
			}
			continue
		}
		asked = append(asked, batch...)
		for _, x := range batch {
			names := c.names[x.Addr]
			if names == nil {
				l.Slow(x.Addr)
				continue
			}
			l.Answered(x.Addr, x.ID, true)
			for _, n := range names(l.Target()) {
				l.Offer(n, x.Addr)
			}
		}
	}
	return asked
}

func inNet(list []Contact[id32], p string) (n int) {
	for _, c := range list {
		if netip.MustParsePrefix(p).Contains(c.Addr.Addr()) {
			n++
		}
	}
	return n
}

// honestCrowd has nodes in networks of their own.
func honestCrowd(n int) (c *crowd) {
	c = &crowd{}
	var list []Contact[id32]
	for i := range n {
		list = append(list, at([4]byte{20, byte(i / 250), byte(i % 250), 1}, 4000))
	}
	c.add(list, list)
	return c
}

// ports are nodes of one host.
func ports(a [4]byte, n int) (list []Contact[id32]) {
	for i := range n {
		list = append(list, at(a, 1000+i))
	}
	return list
}

// One host with thousands of ports, which name each other, gets its share, and
// not many requests.
func TestLookupSharesAmongNetworks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	c := honestCrowd(100)
	honest := slices.Clone(c.all)
	evil := ports([4]byte{8, 0, 0, 1}, 4000)
	c.add(evil, evil)
	for i, n := range honest { // some of the attacker's are in each table
		known := append(slices.Clone(honest), evil[10*i:10*i+10]...)
		c.add([]Contact[id32]{n}, known)
	}
	for range 20 {
		target := randomID(r)
		l := NewLookup(target, 20, 10)
		l.LimitSubnets(2)
		asked := c.walk(l, append(honest[:10:10], evil[:10]...)...)
		got := l.Closest()
		if n := inNet(got, "8.0.0.0/24"); n > 2 || len(got) != 20 {
			t.Errorf("%d of %d closest are the attacker's", n, len(got))
		}
		if n := inNet(asked, "8.0.0.0/24"); n > 16 {
			t.Errorf("%d of the attacker's nodes were asked", n)
		}
		want := nearest(honest, target, 18)
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Fatalf("%v is missing", w)
			}
		}
	}
}

// Where there is nobody else a lookup finds the closest of one network, as
// without a share; and where there are few others, all of those.
func TestLookupFillsUp(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, others := range []int{0, 1, 10} {
		c := &crowd{}
		var list []Contact[id32]
		for i := range 100 {
			list = append(list, at([4]byte{9, 9, 9, byte(i)}, 4000))
		}
		lone := slices.Clone(list)
		for i := range others {
			list = append(list, at([4]byte{20, byte(i), 0, 1}, 4000))
		}
		c.add(list, list)
		for range 20 {
			target := randomID(r)
			l := NewLookup(target, 20, 10)
			l.LimitSubnets(2)
			asked := c.walk(l, append(lone[:5:5], list[100:]...)...)
			got := l.Closest()
			want := nearest(lone, target, 20-others)
			want = append(want, list[100:]...)
			if want = nearest(want, target, 20); !slices.Equal(got, want) {
				t.Fatalf("%d others: found %d, %d of the network; want all the closest", others, len(got), inNet(got, "9.9.9.0/24"))
			}
			if len(asked) > 60 {
				t.Errorf("%d others: asked %d", others, len(asked))
			}
		}
	}
}

// The result is what a greedy choice from all that answered gives: the nearest
// first, of each network no more than its share, then those that are too many.
func TestLookupSharesModel(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 2000 {
		k, share := 1+r.IntN(8), 1+r.IntN(3)
		target := randomID(r)
		l := NewLookup(target, k, 1000)
		l.LimitSubnets(share)
		var all []Contact[id32]
		for i := range 1 + r.IntN(30) {
			c := at([4]byte{20, 0, byte(r.IntN(6)), byte(i)}, 4000)
			if r.IntN(5) == 0 {
				c = at([4]byte{10, 0, 0, byte(i)}, 4000) // no limit
			}
			// Whatever is asked for, as if it had been asked before.
			l.seen[c.Addr] = &candidate[id32]{Contact: c, state: asked}
			l.inflight++
			l.Answered(c.Addr, c.ID, true)
			all = append(all, c)
		}
		var want, extra []Contact[id32]
		counts := map[netip.Prefix]int{}
		for _, c := range nearest(all, target, len(all)) {
			subnet, limited := Subnet(c.Addr.Addr())
			if limited && counts[subnet] == share {
				extra = append(extra, c)
			} else if counts[subnet]++; len(want) < k {
				want = append(want, c)
			}
		}
		want = append(want, extra[:min(len(extra), k-len(want))]...)
		if want = nearest(want, target, k); !slices.Equal(l.Closest(), want) {
			t.Fatalf("k %d, share %d: %v, want %v", k, share, l.Closest(), want)
		}
	}
}

// An attacker who names addresses of honest networks, where nobody answers, can
// neither use up their share nor have many of them asked.
func TestLookupDoubtsWhoNamesTheDead(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	c := honestCrowd(100)
	honest := slices.Clone(c.all)
	evil := ports([4]byte{8, 0, 0, 1}, 200)
	for i, e := range evil {
		c.names[e.Addr] = func(target id32) (lies []Contact[id32]) {
			for j := range 20 {
				a := honest[(20*i+j)%len(honest)].Addr.Addr().As4()
				lies = append(lies, nearest(ports([4]byte{a[0], a[1], a[2], 99}, 30), target, 2)...)
			}
			return lies
		}
	}
	for range 10 {
		target := randomID(r)
		l := NewLookup(target, 20, 10)
		l.LimitSubnets(2)
		asked := c.walk(l, append(evil[:10:10], honest[:3]...)...)
		dead := 0
		for _, x := range asked {
			if c.names[x.Addr] == nil {
				dead++
			}
		}
		if dead == 0 || dead > 24 {
			t.Errorf("%d dead addresses were asked", dead)
		}
		got := l.Closest()
		for _, w := range nearest(honest, target, 18) {
			if !slices.Contains(got, w) {
				t.Fatalf("%v is missing", w)
			}
		}
	}
}

// What a crowd makes a lookup remember is bounded, and leaves room for others.
func TestLookupForgetsTheCrowd(t *testing.T) {
	l := NewLookup(id32{}, 20, 10)
	l.LimitSubnets(2)
	for i := range 60000 {
		l.Offer(at([4]byte{8, 0, 0, byte(i)}, 1+i), netip.AddrPort{})
	}
	if len(l.reserve) != maxReserve || len(l.seen) > maxReserve+maxWaiting || len(l.waiting) > 2 {
		t.Errorf("%d remembered, %d in the reserve, %d wait", len(l.seen), len(l.reserve), len(l.waiting))
	}
	if got := l.Offer(at([4]byte{9, 0, 0, 1}, 1), netip.AddrPort{}); got != Added {
		t.Errorf("another network's node: %v", got)
	}
}

// A doubtful contact is asked when the others do not make k, and counts like them
// when it answers.
func TestOfferLast(t *testing.T) {
	for _, others := range []int{3, 1} {
		l := NewLookup(id32{}, 2, 3)
		doubtful := Contact[id32]{ID: id32{0}, Addr: addr(100)} // the nearest
		l.OfferLast(doubtful, netip.AddrPort{})
		var asked []Contact[id32]
		for i := range others {
			l.Offer(Contact[id32]{ID: id32{byte(i + 1)}, Addr: addr(i)}, netip.AddrPort{})
		}
		for x, ok := l.Next(); ok; x, ok = l.Next() {
			asked = append(asked, x)
			l.Answered(x.Addr, x.ID, true)
		}
		if got := slices.Contains(asked, doubtful); got != (others == 1) || got && l.Closest()[0] != doubtful {
			t.Errorf("%d others: asked %v", others, asked)
		}
		if !l.Done() {
			t.Errorf("%d others: not done", others)
		}
	}
}

// A table takes more of one network until it knows others.
func TestTableAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	table := NewTable[id32, int](randomID(r), 20, Limits{PerBucket: 2, PerTable: 10, Alone: 4})
	fill := func(net byte, n int) (inserted int) {
		for i := range n {
			if _, result := table.Insert(at([4]byte{9, 9, net, byte(i)}, 4000+i), 0); result == Inserted {
				inserted++
			}
		}
		return inserted
	}
	if n := fill(0, 250); n != 40 {
		t.Errorf("alone, %d nodes", n)
	}
	for i := range Diverse - 1 {
		fill(byte(i+1), 1)
	}
	if gone := table.Trim(); gone != nil || table.Len() != 40+Diverse-1 {
		t.Errorf("%d have left beside too few others", len(gone))
	}
	fill(Diverse, 1)
	if gone := table.Trim(); len(gone) != 30 || table.Len() != 10+Diverse || table.Trim() != nil {
		t.Errorf("%d have left, %d are there", len(gone), table.Len())
	}
	if n := fill(100, 250); n > 10 || n < 5 {
		t.Errorf("%d of another network", n)
	}
	seen := map[netip.Prefix]int{}
	for n := range table.All() {
		p, _ := Subnet(n.Addr.Addr())
		seen[p]++
		if seen[p] > 10 {
			t.Errorf("%d of %v", seen[p], p)
		}
	}
}

func TestSubnet(t *testing.T) {
	for a, want := range map[string]string{
		"8.8.8.9": "8.8.8.0/24", "::ffff:8.8.8.9": "8.8.8.0/24", "2a01:4f8:1:2::3": "2a01:4f8:1::/48",
		"127.0.0.1": "", "10.1.2.3": "", "192.168.1.1": "", "100.64.0.1": "", "169.254.1.1": "", "::1": "", "fe80::1": "", "fd00::1": "",
	} {
		got, limited := Subnet(netip.MustParseAddr(a))
		if limited != (want != "") || limited && got.String() != want {
			t.Errorf("%s: %v", a, got)
		}
	}
}

// chained makes nodes of which each names the one that is a little nearer to the
// target.
func (c *crowd) chained(nodes []Contact[id32], target id32) {
	sorted := nearest(nodes, target, len(nodes))
	for i, n := range sorted {
		c.names[n.Addr] = func(id32) []Contact[id32] { return sorted[max(0, i-1):i] }
	}
}

// Nodes of one host that name each other, each a little nearer, do not make a
// lookup ask them all; neither beside others nor where there are none.
func TestLookupLeavesAChain(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	evil := ports([4]byte{8, 0, 0, 1}, 2000)
	for _, others := range []int{100, 5} {
		target := randomID(r)
		c := honestCrowd(others)
		honest := slices.Clone(c.all)
		c.chained(evil, target)
		l := NewLookup(target, 20, 10)
		l.LimitSubnets(2)
		begin := 60 // near enough to matter
		if others < 20 {
			begin = 500
		}
		far := nearest(evil, target, len(evil))[begin : begin+2]
		asked := inNet(c.walk(l, append(far, honest[:5]...)...), "8.0.0.0/24")
		most := 2 * maxClaimed
		if others < 20 {
			most += reserveAsked * 20
		}
		if asked > most || asked < 5 || others > 20 && inNet(l.Closest(), "8.0.0.0/24") > 2 {
			t.Errorf("beside %d others %d of a chain were asked, want at most %d", others, asked, most)
		}
	}
}

// However many networks name nodes of one host, few of those are asked at a time.
func TestLookupAsksFewOfOneHostAtATime(t *testing.T) {
	l := NewLookup(id32{}, 20, 100)
	l.LimitSubnets(2)
	for i, x := range ports([4]byte{8, 0, 0, 1}, 40) {
		l.Offer(x, at([4]byte{20, byte(i), 0, 1}, 1).Addr)
	}
	if len(l.waiting) != 4 || len(l.reserve) != 36 {
		t.Errorf("%d wait, %d are in the reserve", len(l.waiting), len(l.reserve))
	}
	// One that others name too waits when there is room again.
	x, _ := l.Next()
	l.Down(x.Addr)
	if len(l.waiting) != 4 || len(l.reserve) != 35 {
		t.Errorf("%d wait, %d are in the reserve, after one did not answer", len(l.waiting), len(l.reserve))
	}
}

// The reserve is not asked as long as enough others are under way.
func TestReserveWaits(t *testing.T) {
	l := NewLookup(id32{}, 4, 10)
	l.LimitSubnets(1)
	for _, x := range ports([4]byte{8, 0, 0, 1}, 3) {
		l.Offer(x, netip.AddrPort{})
	}
	for i := range 3 {
		l.Offer(at([4]byte{20, byte(i), 0, 1}, 1), netip.AddrPort{})
	}
	var asked []Contact[id32]
	for x, ok := l.Next(); ok; x, ok = l.Next() {
		asked = append(asked, x)
	}
	if len(asked) != 4 || inNet(asked, "8.0.0.0/24") != 1 {
		t.Errorf("asked %v", asked)
	}
	l.Slow(asked[0].Addr) // now one may be missing
	if x, ok := l.Next(); !ok || inNet([]Contact[id32]{x}, "8.0.0.0/24") != 1 {
		t.Errorf("asked %v %v", x, ok)
	}
}

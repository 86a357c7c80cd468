package kad

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/warren-dht/warren/internal/vectors"
	"golang.org/x/crypto/blake2b"
	"pgregory.net/rapid"
)

type id32 = [32]byte

func randomID(r *rand.Rand) (id id32) {
	for i := 0; i < len(id); i += 8 {
		binary.BigEndian.PutUint64(id[i:], r.Uint64())
	}
	return id
}

func addr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(n >> 16), byte(n >> 8), byte(n)}), 1000)
}

// near returns an id that shares exactly prefix bits with own.
func near(r *rand.Rand, own id32, prefix int) id32 {
	id := randomID(r)
	for i := range prefix {
		bit := byte(0x80) >> (i % 8)
		id[i/8] = id[i/8]&^bit | own[i/8]&bit
	}
	bit := byte(0x80) >> (prefix % 8)
	id[prefix/8] = id[prefix/8]&^bit | ^own[prefix/8]&bit
	return id
}

// The n closest are the first n of all nodes sorted by distance, whatever the
// table's shape and wherever the target stands.
func TestClosestIsTrueAndSorted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		own := randomID(r)
		k := rapid.IntRange(1, 20).Draw(t, "k")
		table := NewTable[id32, int](own, k, Limits{})
		var ids []id32
		for i := range rapid.IntRange(0, 300).Draw(t, "nodes") {
			id := randomID(r)
			if i%2 == 1 {
				id = near(r, own, r.IntN(256))
			}
			if _, res := table.Insert(Contact[id32]{ID: id, Addr: addr(i)}, i); res == Inserted {
				ids = append(ids, id)
			}
			if len(ids) > 0 && i%7 == 6 {
				j := r.IntN(len(ids))
				if table.Remove(ids[j]) == nil {
					t.Fatal("a node that was inserted is not there")
				}
				ids = slices.Delete(ids, j, j+1)
			}
		}
		target := randomID(r)
		switch rapid.IntRange(0, 3).Draw(t, "where") {
		case 0:
			target = own
		case 1:
			target = near(r, own, r.IntN(256))
		}
		n := rapid.IntRange(0, 40).Draw(t, "n")
		slices.SortFunc(ids, func(a, b id32) int { return Compare(target, a, b) })
		var got []id32
		for _, x := range table.Closest(nil, target, n) {
			got = append(got, x.ID)
		}
		if want := ids[:min(n, len(ids))]; !slices.Equal(got, want) {
			t.Fatalf("closest %d of %d: got %x, want %x", n, len(ids), got, want)
		}
	})
}

func TestClosestDoesNotAllocate(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	table := fullTable(r)
	dst := make([]*Node[id32, int], 0, 20)
	target := randomID(r)
	if n := testing.AllocsPerRun(100, func() { dst = table.Closest(dst[:0], target, 20) }); n != 0 {
		t.Errorf("Closest allocates %v times", n)
	}
}

func fullTable(r *rand.Rand) *Table[id32, int] {
	table := NewTable[id32, int](randomID(r), 20, Limits{})
	for i := range 1000 {
		table.Insert(Contact[id32]{ID: randomID(r), Addr: addr(i)}, i)
	}
	return table
}

func TestInsertions(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	own := randomID(r)
	table := NewTable[id32, string](own, 2, Limits{})
	a, b, c := near(r, own, 3), near(r, own, 3), near(r, own, 3)
	insert := func(why string, id id32, want Insertion) {
		t.Helper()
		if _, got := table.Insert(Contact[id32]{ID: id, Addr: addr(1)}, why); got != want {
			t.Errorf("%s: got %v, want %v", why, got, want)
		}
	}
	insert("our own id has no place", own, Self)
	insert("first of its bucket", a, Inserted)
	insert("second of its bucket", b, Inserted)
	insert("a bucket holds k", c, Full)
	insert("known ids are not inserted again", a, Known)
	if n := table.Get(a); n.Data != "first of its bucket" {
		t.Errorf("a known node was replaced: %q", n.Data)
	}
	table.Remove(b)
	insert("room after a removal", c, Inserted)
	if table.Remove(b) != nil || table.Len() != 2 {
		t.Errorf("removed twice, or %d nodes", table.Len())
	}
}

func TestSubnetLimits(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	own := randomID(r)
	at := func(ip string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(ip), 1) }
	table := NewTable[id32, int](own, 20, Limits{PerBucket: 2, PerTable: 3})
	insert := func(why, ip string, prefix int, want Insertion) id32 {
		t.Helper()
		id := near(r, own, prefix)
		if _, got := table.Insert(Contact[id32]{ID: id, Addr: at(ip)}, 0); got != want {
			t.Errorf("%s: got %v, want %v", why, got, want)
		}
		return id
	}
	first := insert("first of the subnet", "88.1.2.1", 0, Inserted)
	insert("second", "88.1.2.2", 0, Inserted)
	insert("third in the bucket", "88.1.2.3", 0, Crowded)
	insert("third in the table", "88.1.2.4", 1, Inserted)
	insert("fourth in the table", "88.1.2.5", 2, Crowded)
	insert("another subnet", "88.1.3.1", 0, Inserted)
	table.Remove(first)
	insert("room again", "88.1.2.6", 2, Inserted)
	for i := range 10 {
		insert("loopback is exempt", fmt.Sprintf("127.0.0.%d", i+1), 5, Inserted)
		insert("private ranges are exempt", fmt.Sprintf("10.0.0.%d", i+1), 6, Inserted)
	}
}

func TestRebase(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	table := NewTable[id32, int](randomID(r), 3, Limits{PerTable: 1})
	at := netip.MustParseAddrPort("88.1.2.3:1")
	table.Insert(Contact[id32]{ID: randomID(r), Addr: at}, 0)
	for i := range 50 {
		table.Insert(Contact[id32]{ID: randomID(r), Addr: addr(i)}, i)
	}
	before, own := table.Len(), table.Newest().ID
	newest := table.Newest().Older().ID
	dropped := table.Rebase(own)
	if table.Own() != own || table.Get(own) != nil || table.Len()+len(dropped) != before {
		t.Errorf("%d nodes and %d dropped of %d", table.Len(), len(dropped), before)
	}
	if n := table.Get(newest); n != nil && table.Newest() != n {
		t.Error("the order in which nodes were heard from is lost")
	}
	if _, got := table.Insert(Contact[id32]{ID: randomID(r), Addr: at}, 0); got == Inserted {
		t.Error("the count of subnets is lost")
	}
}

func TestRecency(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	table := NewTable[id32, int](randomID(r), 20, Limits{})
	var nodes []*Node[id32, int]
	for i := range 5 {
		n, _ := table.Insert(Contact[id32]{ID: randomID(r), Addr: addr(i)}, i)
		nodes = append(nodes, n)
	}
	order := func(why string, want ...int) {
		t.Helper()
		var got []int
		for n := range table.All() {
			got = append(got, n.Data)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", why, got, want)
		}
		for n := table.Oldest(); n != nil; n = n.Newer() {
			got = got[:len(got)-1]
		}
		if len(got) != 0 {
			t.Errorf("%s: the other direction differs by %d", why, len(got))
		}
	}
	order("newest first", 4, 3, 2, 1, 0)
	table.Touch(nodes[2])
	order("from the middle", 2, 4, 3, 1, 0)
	table.Touch(nodes[0])
	order("from the end", 0, 2, 4, 3, 1)
	table.Touch(nodes[0])
	order("the newest stays", 0, 2, 4, 3, 1)
	table.Remove(nodes[4].ID)
	order("removed", 0, 2, 3, 1)
	for n := range table.All() {
		table.Remove(n.ID)
	}
	order("emptied while walking")
}

func TestRandomReachesAll(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	table := NewTable[id32, int](randomID(r), 20, Limits{})
	if table.Random(r) != nil {
		t.Error("an empty table has a node")
	}
	for i := range 10 {
		table.Insert(Contact[id32]{ID: randomID(r), Addr: addr(i)}, i)
	}
	seen := map[int]bool{}
	for range 500 {
		seen[table.Random(r).Data] = true
	}
	if len(seen) != 10 {
		t.Errorf("saw %d of 10 nodes", len(seen))
	}
}

// Buckets are filled as in docs/spec/dht-rpc.md §6.2, and the closest are the
// vectors' exact XOR order (the reference's own order need not be followed).
func TestTableVectors(t *testing.T) {
	var v struct {
		RoutingTable []struct {
			OwnID   string `json:"own_id"`
			K       int
			Insert  []string
			Rows    map[string][]string
			Full    []string `json:"rejected_full"`
			Closest []struct {
				Target string
				Exact  []string `json:"exact_xor_order"`
			}
		} `json:"routing_table"`
		Distance []struct {
			Target, A, B string
			Order        int
		}
	}
	vectors.Load(t, "dht-rpc.json", &v)
	if len(v.RoutingTable) == 0 || len(v.Distance) == 0 {
		t.Fatal("no vectors")
	}
	parse := func(s string) (id id32) {
		b, err := hex.DecodeString(s)
		if err != nil || copy(id[:], b) != 32 {
			t.Fatalf("%q is no id", s)
		}
		return id
	}
	for _, d := range v.Distance {
		got := Compare(parse(d.Target), parse(d.A), parse(d.B))
		if max(-1, min(1, got)) != d.Order {
			t.Errorf("compare %v: got %d", d, got)
		}
	}
	for i, c := range v.RoutingTable {
		own := parse(c.OwnID)
		table := NewTable[id32, string](own, c.K, Limits{})
		var full []string
		for _, s := range c.Insert {
			at := netip.MustParseAddrPort(s)
			a4 := at.Addr().As4()
			id := id32(blake2b.Sum256(binary.LittleEndian.AppendUint16(a4[:], at.Port())))
			if _, res := table.Insert(Contact[id32]{ID: id, Addr: at}, s); res == Full {
				full = append(full, s)
			}
		}
		if !slices.Equal(full, c.Full) {
			t.Errorf("%d: rejected %v, want %v", i, full, c.Full)
		}
		rows := map[string][]string{}
		for i, b := range table.buckets {
			b = slices.Clone(b)
			slices.SortFunc(b, func(x, y *Node[id32, string]) int {
				return strings.Compare(string(x.ID[:]), string(y.ID[:]))
			})
			for _, n := range b {
				rows[fmt.Sprint(i)] = append(rows[fmt.Sprint(i)], n.Data)
			}
		}
		for row, want := range c.Rows {
			if !slices.Equal(rows[row], want) {
				t.Errorf("%d: row %s holds %v, want %v", i, row, rows[row], want)
			}
		}
		if len(rows) != len(c.Rows) {
			t.Errorf("%d: %d rows, want %d", i, len(rows), len(c.Rows))
		}
		for _, cl := range c.Closest {
			var got []string
			for _, n := range table.Closest(nil, parse(cl.Target), c.K) {
				got = append(got, n.Data)
			}
			if !slices.Equal(got, cl.Exact) {
				t.Errorf("%d: closest to %s: %v, want %v", i, cl.Target, got, cl.Exact)
			}
		}
	}
}

func BenchmarkClosest(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	table := fullTable(r)
	var targets [64]id32
	for i := range targets {
		targets[i] = randomID(r)
	}
	dst := make([]*Node[id32, int], 0, 20)
	i := 0
	for b.Loop() {
		dst = table.Closest(dst[:0], targets[i%64], 20)
		i++
	}
}

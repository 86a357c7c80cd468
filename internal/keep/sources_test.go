package keep

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// networks is for GroupBy: sources below 1,000 have no network, others one for
// each thousand.
func networks(s int) (netip.Prefix, bool) {
	if s < 1000 {
		return netip.Prefix{}, false
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(s/1000)<<8)
	return netip.PrefixFrom(netip.AddrFrom4(a), 24), true
}

func count[K comparable, V any](m *Map[K, V, int], is func(K) bool) (n int) {
	for k := range m.All() {
		if is(k) {
			n++
		}
	}
	return n
}

func TestMapBytes(t *testing.T) {
	m := NewMap[string, int, string](Limits{Entries: 100, Bytes: 1000}, nil)
	m.PutSized(after(1), "honest", 0, 300, "h")
	for i := range 20 {
		m.PutSized(after(time.Duration(2+i)), fmt.Sprint("e", i), 0, 200, "evil")
	}
	wantKeys(t, "evil pushes out itself", m, "honest", "e17", "e18", "e19")
	m.PutSized(after(30), "many1", 0, 10, "many")
	m.PutSized(after(31), "many2", 0, 10, "many")
	m.PutSized(after(32), "many3", 0, 10, "many")
	m.PutSized(after(33), "many4", 0, 10, "many")
	m.PutSized(after(34), "n", 0, 250, "new")
	wantKeys(t, "not who has most entries, but most bytes", m, "honest", "e18", "e19", "many1", "many2", "many3", "many4", "n")
	m.PutSized(after(35), "many1", 0, 100, "many")
	wantKeys(t, "a value that grows needs room", m, "honest", "e19", "many2", "many3", "many4", "n", "many1")
	if m.PutSized(after(36), "huge", 0, 1001, "many"); m.Len() != 7 {
		t.Error("what is larger than the store pushed out others")
	}
	if s := m.Stats(); s.Bytes != 300+200+30+250+100 {
		t.Errorf("%+v", s)
	}
	m.Delete("honest")
	if s := m.Stats(); s.Bytes != 580 {
		t.Errorf("%+v", s)
	}
}

func TestQuotasOfNetworks(t *testing.T) {
	m := NewMap[int, int, int](Limits{Entries: 1000, PerSource: 10, PerNetwork: 30}, nil).GroupBy(networks)
	for i := range 5 {
		m.Put(after(time.Duration(i)), i, 0, 2001) // of the attacker's network
		m.Put(after(time.Duration(i)), 10+i, 0, 3001)
	}
	for i := range 500 {
		m.Put(after(time.Duration(10+i)), 1000+i, 0, 2002+i%4)
		m.Put(after(time.Duration(10+i)), 2000+i, 0, 7) // without a network
	}
	for _, want := range []struct {
		what     string
		from, to int
		n        int
	}{{"of its own network, lighter", 0, 5, 5}, {"of another network", 10, 15, 5}, {"attacker", 1000, 1500, 25}, {"exempt", 2000, 2500, 500}} {
		if n := count(m, func(k int) bool { return k >= want.from && k < want.to }); n != want.n {
			t.Errorf("%s: %d entries, want %d", want.what, n, want.n)
		}
	}
	for i := range 20 {
		m.Put(after(time.Duration(1000+i)), 3000+i, 0, 3002)
	}
	if n := count(m, func(k int) bool { return k >= 3000 }); n != 10 {
		t.Errorf("%d entries of a source whose quota is 10", n)
	}
	if s := m.Stats(); s.OverQuota != 475+10 || s.Evicted != 0 {
		t.Errorf("%+v", s)
	}
}

// The review's figure: 64 addresses with 1,024 records each left an honest
// address 992 of its 2,000. It keeps all of them unless the addresses are of more
// than 31 networks.
func TestAddressesOfFewNetworks(t *testing.T) {
	for _, c := range []struct{ networks, want int }{{1, 2000}, {4, 2000}, {31, 2000}, {64, 1007}} {
		m := NewMap[int, int, int](Limits{Entries: 65536}, nil).GroupBy(networks)
		for i := range 2000 {
			m.Put(start, i, 0, 999_001)
		}
		for i := range 64 * 1024 {
			address := i % 64
			m.Put(after(time.Duration(i)), 100_000+i, 0, 1000*(1+address%c.networks)+address)
		}
		if n := count(m, func(k int) bool { return k < 100_000 }); n < c.want {
			t.Errorf("%d networks: %d of 2,000 are left, want %d", c.networks, n, c.want)
		}
	}
}

// TestFairnessOfNetworks: whatever the addresses of one network do, no other
// network loses an entry as long as it holds less than an even share; and within
// the network no address does.
func TestFairnessOfNetworks(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		limits := Limits{Entries: 64}
		if rapid.Bool().Draw(r, "bytes") {
			limits = Limits{Entries: 1000, Bytes: 640}
		}
		m := NewMap[int, int, int](limits, nil).GroupBy(networks)
		honest := rapid.IntRange(1, 15).Draw(r, "networks")
		each := rapid.IntRange(1, 64/(honest+1)).Draw(r, "each")
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 0))
		m.PutSized(start, -1, 0, 10, 500_999) // a neighbour of the attacker
		for i := range honest * each {
			m.PutSized(start, i, i, 10, 1000*(1+i%honest)+rnd.IntN(5))
		}
		for i := range 500 {
			now, who := after(time.Duration(i)), 500_000+rnd.IntN(20)
			if rnd.IntN(3) == 0 {
				m.PutSized(now, rnd.IntN(honest*each), 0, 10, who) // put again what others put
			} else {
				m.PutSized(now, 1000+i, 0, 10, who)
			}
			checkPool(r, &m.pool)
		}
		for i := range honest * each {
			if _, _, ok := m.Get(after(1000), i); !ok {
				r.Fatalf("entry %d of %d networks with %d each is gone", i, honest, each)
			}
		}
		if _, _, ok := m.Get(after(1000), -1); !ok && 64/(honest+1) > 21 {
			r.Fatal("the neighbour's only entry is gone")
		}
	})
}

// TestPoolInvariants drives a map with random operations of sources with and
// without networks, and compares its sums and ranks with what the entries say.
func TestPoolInvariants(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := NewMap[int, int, int](Limits{
			Entries: rapid.IntRange(1, 40).Draw(r, "entries"), Age: 300,
			Bytes:      rapid.IntRange(0, 400).Draw(r, "bytes"),
			PerSource:  rapid.IntRange(0, 8).Draw(r, "per source"),
			PerNetwork: rapid.IntRange(0, 20).Draw(r, "per network"),
		}, nil).GroupBy(networks)
		seed := rapid.Uint64().Draw(r, "seed")
		rnd := rand.New(rand.NewPCG(seed, 1))
		now := start
		for range 400 {
			now = now.Add(time.Duration(rnd.IntN(4)))
			source := rnd.IntN(6)
			if rnd.IntN(2) == 0 {
				source = 1000*(1+rnd.IntN(4)) + rnd.IntN(4)
			}
			key := rnd.IntN(80)
			switch rnd.IntN(8) {
			case 0:
				m.Delete(key)
			case 1:
				m.Renew(now, key)
			default:
				m.PutSized(now, key, 0, rnd.IntN(60), source)
			}
			checkPool(r, &m.pool)
		}
	})
}

// checkPool fails the test unless the pool agrees with itself and its limits.
func checkPool[P any](t *rapid.T, p *pool[int, P]) {
	sources, byNetwork := map[int]holding{}, map[uint64]holding{}
	var all holding
	add := func(h holding, size int32) holding {
		h.len, h.bytes = h.len+1, h.bytes+int64(size)
		return h
	}
	for r := p.all.oldest; r != 0; r = p.entries.at(r).next[ofAll] {
		e, id := p.entries.at(r), p.sourceOf(r)
		all = add(all, e.size)
		sources[id] = add(sources[id], e.size)
		if prefix, ok := networks(id); ok {
			byNetwork[pack(prefix)] = add(byNetwork[pack(prefix)], e.size)
		}
	}
	same := func(what string, got *holding, want holding) {
		if got.len != want.len || got.bytes != want.bytes {
			t.Fatalf("%s: %d entries, %d bytes, counted %d, %d", what, got.len, got.bytes, want.len, want.bytes)
		}
	}
	same("all", &p.all, all)
	if int(all.len) > p.limits.Entries || p.limits.Bytes > 0 && all.bytes > int64(p.limits.Bytes) {
		t.Fatalf("%d entries, %d bytes of %+v", all.len, all.bytes, p.limits)
	}
	alone := 0
	for id, want := range sources {
		s := p.sources.at(p.bySource[id])
		same(fmt.Sprint("source ", id), &s.holding, want)
		if s.network == 0 {
			alone++
		} else if q := p.limits.PerSource; q > 0 && int(want.len) > q {
			t.Fatalf("source %d holds %d, its quota is %d", id, want.len, q)
		}
	}
	for id, want := range byNetwork {
		same(fmt.Sprintf("network %x", id), &p.networks.at(p.byNetwork[id]).holding, want)
		if q := p.limits.PerNetwork; q > 0 && int(want.len) > q {
			t.Fatalf("network %x holds %d, its quota is %d", id, want.len, q)
		}
	}
	if len(sources) != len(p.bySource) || len(byNetwork) != len(p.byNetwork) {
		t.Fatalf("%d sources and %d networks, counted %d and %d", len(p.bySource), len(p.byNetwork), len(sources), len(byNetwork))
	}
	for m := range p.ranked {
		rank := p.ranks[m]
		if len(rank) != alone+len(byNetwork) {
			t.Fatalf("%d parties ranked, not %d", len(rank), alone+len(byNetwork))
		}
		for i, party := range rank {
			h := p.holding(party)
			if int(h.index[m]) != i || i > 0 && p.before(m, h, p.holding(rank[(i-1)/2])) {
				t.Fatalf("rank %d: place %d of %d is wrong", m, i, len(rank))
			}
		}
	}
}

func TestNetworksAreToldApart(t *testing.T) {
	seen := map[uint64]string{}
	for _, s := range []string{"0.0.0.0/24", "0.0.0.0/8", "1.2.3.0/24", "1.2.4.0/24", "::/56", "::/48", "102:300::/56", "2001:db8:0:100::/56", "2001:db8:0:200::/56", "2001:db8::/56"} {
		n := pack(netip.MustParsePrefix(s))
		if other, twice := seen[n]; twice || n == 0 {
			t.Errorf("%s and %q are %x", s, other, n)
		}
		seen[n] = s
	}
}

func TestJournalIsBounded(t *testing.T) {
	full := func(j *Journal, c Change) (n int) {
		for n = 0; !j.Full() && n < 1000; n++ {
			j.Add(c)
		}
		return n
	}
	j := NewJournal(100, 5000)
	if n := full(j, Change{Key: make([]byte, 10)}); n != 100 {
		t.Errorf("full at %d changes, want 100", n)
	}
	j.Take()
	if n := full(j, Change{Key: make([]byte, 32), Value: make([]byte, 968)}); n != 5 {
		t.Errorf("full at %d changes of 1,000 bytes, want 5", n)
	}
}

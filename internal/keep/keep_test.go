package keep

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var start = time.Unix(1_700_000_000, 0)

func after(d time.Duration) time.Time { return start.Add(d) }

func keys[K comparable, V any, S comparable](m *Map[K, V, S]) []K {
	var out []K
	for k := range m.All() {
		out = append(out, k)
	}
	return out
}

func wantKeys(t *testing.T, why string, m *Map[string, int, string], want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, keys(m)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", why, diff)
	}
}

func TestMapAges(t *testing.T) {
	var gone []string
	m := NewMap[string, int, string](Limits{Entries: 10, Age: time.Minute}, func(k string, _ int, why Reason) {
		gone = append(gone, fmt.Sprint(k, why))
	})
	m.Put(after(0), "a", 1, "x")
	m.Put(after(10*time.Second), "b", 2, "x")
	m.Put(after(20*time.Second), "c", 3, "x")
	if at, ok := m.Deadline(); !ok || !at.Equal(after(time.Minute)) {
		t.Errorf("deadline %v %v", at, ok)
	}
	m.Renew(after(30*time.Second), "a")
	if v, stamp, ok := m.Get(after(40*time.Second), "a"); !ok || v != 1 || !stamp.Equal(after(30*time.Second)) {
		t.Errorf("a: %v %v %v", v, stamp, ok)
	}
	if _, _, ok := m.Get(after(69*time.Second), "b"); !ok {
		t.Error("b went before its time")
	}
	if _, _, ok := m.Get(after(70*time.Second), "b"); ok {
		t.Error("b outlived its time")
	}
	if added := m.Put(after(75*time.Second), "c", 4, "x"); added {
		t.Error("c was there")
	}
	wantKeys(t, "c was put again, after a", m, "a", "c")
	if n := m.Expire(after(10 * time.Minute)); n != 2 {
		t.Errorf("expired %d", n)
	}
	if _, ok := m.Deadline(); ok {
		t.Error("an empty map has no deadline")
	}
	if diff := cmp.Diff([]string{"b1", "a1", "c1"}, gone); diff != "" {
		t.Error(diff)
	}
	want := Stats{Added: 3, Replaced: 1, Expired: 3}
	if diff := cmp.Diff(want, m.Stats()); diff != "" {
		t.Error(diff)
	}
}

func TestMapForEver(t *testing.T) {
	m := NewMap[string, int, string](Limits{Entries: 1}, nil)
	m.Put(after(0), "a", 1, "x")
	if _, _, ok := m.Get(after(1000*time.Hour), "a"); !ok {
		t.Error("age 0 is for ever")
	}
	if !m.Delete("a") || m.Delete("a") || m.Len() != 0 {
		t.Error("Delete")
	}
}

func TestMapFullDropsOldestOfHeaviest(t *testing.T) {
	m := NewMap[string, int, string](Limits{Entries: 4}, nil)
	m.Put(after(1), "honest", 0, "h")
	m.Put(after(2), "e1", 0, "evil")
	m.Put(after(3), "e2", 0, "evil")
	m.Put(after(4), "e3", 0, "evil")
	m.Put(after(5), "e4", 0, "evil")
	wantKeys(t, "evil pushes out itself", m, "honest", "e2", "e3", "e4")
	m.Put(after(6), "h2", 0, "h")
	wantKeys(t, "honest pushes out the heaviest", m, "honest", "e3", "e4", "h2")
	m.Put(after(7), "e5", 0, "evil")
	wantKeys(t, "a tie is at the cost of who adds", m, "honest", "e4", "h2", "e5")
	m.Put(after(8), "n", 0, "new")
	wantKeys(t, "equally heavy: the one with the oldest entry", m, "e4", "h2", "e5", "n")
}

func TestMapQuota(t *testing.T) {
	m := NewMap[string, int, string](Limits{Entries: 100, PerSource: 2}, nil)
	m.Put(after(1), "a", 0, "x")
	m.Put(after(2), "b", 0, "x")
	m.Put(after(3), "c", 0, "x")
	m.Put(after(4), "d", 0, "y")
	wantKeys(t, "x is at its quota", m, "b", "c", "d")
	if s := m.Stats(); s.OverQuota != 1 || s.Sources != 2 {
		t.Errorf("%+v", s)
	}
}

func TestClaimFavoursTheLighter(t *testing.T) {
	m := NewMap[string, int, string](Limits{Entries: 6}, nil)
	m.Put(after(1), "mine", 0, "light")
	for i := range 4 {
		m.Put(after(2), fmt.Sprint("e", i), 0, "evil")
	}
	m.Put(after(3), "mine", 1, "evil") // must not make it evil's
	for i := range 20 {
		m.Put(after(4), fmt.Sprint("f", i), 0, "evil")
	}
	if _, _, ok := m.Get(after(5), "mine"); !ok {
		t.Error("evil claimed the entry of another and had it evicted")
	}
	m.Put(after(6), "f19", 0, "light")
	for i := range 20 {
		m.Put(after(7), fmt.Sprint("g", i), 0, "evil")
	}
	if _, _, ok := m.Get(after(8), "f19"); !ok {
		t.Error("the lighter source did not get the entry")
	}
}

func sample(s *Sets[string, string, int, string], now time.Time, id string, n int, seed uint64) []string {
	var out []string
	for k := range s.Sample(now, id, n, rand.New(rand.NewPCG(seed, 1))) {
		out = append(out, k)
	}
	return out
}

func TestSetsSampleIsFair(t *testing.T) {
	s := NewSets[string, string, int, string](Limits{Entries: 100000}, nil)
	for i := range 10000 {
		s.Put(start, "t", fmt.Sprint("flood", i), 0, "evil")
	}
	for i := range 19 {
		s.Put(start, "t", fmt.Sprint("honest", i), 0, fmt.Sprint("h", i))
	}
	for seed := range uint64(20) {
		got := sample(s, start, "t", 20, seed)
		flood := 0
		for _, k := range got {
			if k[0] == 'f' {
				flood++
			}
		}
		if len(got) != 20 || flood != 1 {
			t.Fatalf("%d members, %d of the flood", len(got), flood)
		}
	}
}

func TestSetsSampleIsUniform(t *testing.T) {
	s := NewSets[string, string, int, string](Limits{Entries: 1000}, nil)
	for i := range 35 {
		s.Put(start, "t", fmt.Sprint(i), 0, "one")
	}
	seen := map[string]int{}
	rnd := rand.New(rand.NewPCG(1, 2))
	const draws = 7000
	for range draws {
		n := 0
		distinct := map[string]bool{}
		for k := range s.Sample(start, "t", 20, rnd) {
			seen[k]++
			distinct[k] = true
			n++
		}
		if n != 20 || len(distinct) != 20 {
			t.Fatalf("%d drawn, %d distinct", n, len(distinct))
		}
	}
	for k, n := range seen { // expected 4000, standard deviation 41
		if n < 3700 || n > 4300 {
			t.Errorf("%s drawn %d times of %d", k, n, draws)
		}
	}
	if len(seen) != 35 {
		t.Errorf("%d of 35 ever drawn", len(seen))
	}
}

func TestSetsTopicLimit(t *testing.T) {
	s := NewSets[string, string, int, string](Limits{Entries: 1000, PerTopic: 40}, nil)
	for i := range 10 {
		s.Put(after(time.Duration(i)), "t", fmt.Sprint("honest", i), 0, fmt.Sprint("h", i))
	}
	for i := range 500 {
		s.Put(after(time.Duration(100+i)), "t", fmt.Sprint("flood", i), 0, "evil")
	}
	s.Put(after(1000), "other", "x", 0, "evil")
	if n := s.Size(after(1001), "t"); n != 40 {
		t.Errorf("%d members", n)
	}
	for i := range 10 {
		if _, _, ok := s.Get(after(1001), "t", fmt.Sprint("honest", i)); !ok {
			t.Errorf("honest %d was pushed out", i)
		}
	}
	if _, _, ok := s.Get(after(1001), "t", "flood499"); !ok {
		t.Error("the newest should be there")
	}
	if st := s.Stats(); st.Topics != 2 || st.Entries != 41 || st.Evicted != 470 {
		t.Errorf("%+v", st)
	}
}

func TestSetsSampleTopics(t *testing.T) {
	s := NewSets[int, int, int, int](Limits{Entries: 100, Age: time.Second}, nil)
	for i := range 50 {
		s.Put(start, i, i, i, i)
	}
	got := s.SampleTopics(start, 20, rand.New(rand.NewPCG(3, 4)))
	slices.Sort(got)
	if len(slices.Compact(got)) != 20 {
		t.Errorf("%v", got)
	}
	if got := s.SampleTopics(after(time.Second), 20, rand.New(rand.NewPCG(3, 4))); len(got) != 0 {
		t.Errorf("expired topics: %v", got)
	}
}

// TestSetsModel drives Sets with random operations and compares with the
// plainest model there is.
func TestSetsModel(t *testing.T) {
	type tk struct{ topic, key int }
	type val struct {
		value int
		at    time.Time
	}
	rapid.Check(t, func(r *rapid.T) {
		const age = 50
		s := NewSets[int, int, int, int](Limits{Entries: 10000, Age: age}, nil)
		model := map[tk]val{}
		now := start
		steps := rapid.IntRange(1, 300).Draw(r, "steps")
		for range steps {
			now = now.Add(time.Duration(rapid.IntRange(0, 2).Draw(r, "dt")))
			for k, v := range model {
				if now.Sub(v.at) >= age {
					delete(model, k)
				}
			}
			k := tk{rapid.IntRange(0, 2).Draw(r, "topic"), rapid.IntRange(0, 60).Draw(r, "key")}
			switch rapid.IntRange(0, 9).Draw(r, "op") {
			case 0:
				_, had := model[k]
				s.Expire(now)
				if s.Delete(k.topic, k.key) != had {
					r.Fatalf("delete %v: model says %v", k, had)
				}
				delete(model, k)
			case 1:
				want := 0
				for m := range model {
					if m.topic == k.topic {
						want++
					}
				}
				seen := map[int]bool{}
				for key, v := range s.Sample(now, k.topic, 15, rand.New(rand.NewPCG(1, uint64(steps)))) {
					if m, ok := model[tk{k.topic, key}]; !ok || m.value != v || seen[key] {
						r.Fatalf("sample %d of topic %d: %v", key, k.topic, m)
					}
					seen[key] = true
				}
				if len(seen) != min(15, want) {
					r.Fatalf("sampled %d of %d", len(seen), want)
				}
			default:
				v := rapid.Int().Draw(r, "value")
				_, had := model[k]
				if s.Put(now, k.topic, k.key, v, rapid.IntRange(0, 30).Draw(r, "source")) == had {
					r.Fatalf("put %v: model says had %v", k, had)
				}
				model[k] = val{v, now}
			}
			if s.Len() != len(model) {
				r.Fatalf("%d members, model has %d", s.Len(), len(model))
			}
			for k, want := range model {
				if v, _, ok := s.Get(now, k.topic, k.key); !ok || v != want.value {
					r.Fatalf("%v: %v %v", k, v, ok)
				}
			}
		}
		for topic := range 3 {
			n := 0
			for range s.Members(now, topic) {
				n++
			}
			if n != s.Size(now, topic) {
				r.Fatalf("topic %d: %d members of %d", topic, n, s.Size(now, topic))
			}
		}
	})
}

// TestFairness: whatever a flood from one address does, nobody else loses an
// entry as long as he holds less than an even share.
func TestFairness(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := NewMap[int, int, int](Limits{Entries: 64}, nil)
		honest := rapid.IntRange(1, 15).Draw(r, "sources")
		each := rapid.IntRange(1, 64/(honest+1)).Draw(r, "each")
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 0))
		for i := range honest * each {
			m.Put(start, i, i, 1+i%honest)
		}
		for i := range 500 {
			now := after(time.Duration(i))
			if rnd.IntN(3) == 0 {
				m.Put(now, rnd.IntN(honest*each), 0, 0) // put again what others put
			} else {
				m.Put(now, 1000+i, 0, 0)
			}
			if m.Len() > 64 {
				r.Fatalf("%d entries", m.Len())
			}
		}
		for i := range honest * each {
			if _, _, ok := m.Get(after(1000), i); !ok {
				r.Fatalf("entry %d of %d sources with %d each is gone", i, honest, each)
			}
		}
	})
}

func BenchmarkMapPutFull(b *testing.B) {
	m := NewMap[[32]byte, []byte, [4]byte](Limits{Entries: 1 << 15, Age: time.Hour}, nil)
	var key [32]byte
	var src [4]byte
	i := 0
	for b.Loop() {
		key[0], key[1], key[2], key[3] = byte(i), byte(i>>8), byte(i>>16), byte(i>>24)
		src[0], src[1] = byte(i*7), byte(i>>3)
		m.Put(after(time.Duration(i)), key, nil, src)
		i++
	}
}

// A full store of records as a node has it: bounded in bytes, with quotas, its
// sources of 16,384 networks.
func BenchmarkMapPutFullGrouped(b *testing.B) {
	m := NewMap[[32]byte, []byte, int](Limits{Entries: 1 << 15, Bytes: 1 << 24, Age: time.Hour, PerSource: 4096, PerNetwork: 16384}, nil).GroupBy(networks)
	var key [32]byte
	i := 0
	for b.Loop() {
		key[0], key[1], key[2], key[3] = byte(i), byte(i>>8), byte(i>>16), byte(i>>24)
		m.PutSized(after(time.Duration(i)), key, nil, 500, 1000+(i*7919)&0xffffff)
		i++
	}
}

func BenchmarkClock(b *testing.B) {
	c := NewClock(time.Hour)
	for b.Loop() {
		c.Now(time.Now())
	}
}

func BenchmarkSample20Of10000(b *testing.B) {
	s := NewSets[int, int, int, int](Limits{Entries: 100000}, nil)
	for i := range 10000 {
		s.Put(start, 1, i, i, i%700)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		for range s.Sample(start, 1, 20, rnd) {
		}
	}
}

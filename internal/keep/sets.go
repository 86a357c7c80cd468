package keep

import (
	"iter"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Sets keeps a set of members for each topic, with a value for each member. It
// belongs to one goroutine.
//
//	topic -> groups, one a source -> members
//
// Members are grouped by source, so that a sample can be drawn source by
// source: thousands of members from one address weigh no more in it than one.
type Sets[T, K comparable, V any, S comparable] struct {
	pool    pool[S, member[T, K, V, S]]
	topics  map[T]*topic[T, K, V, S]
	list    []*topic[T, K, V, S] // the same, to draw from
	removed func(T, K, V, Reason)
}

type member[T, K comparable, V any, S comparable] struct {
	topic *topic[T, K, V, S]
	at    int32 // in its group
	key   K
	value V
}

type topic[T, K comparable, V any, S comparable] struct {
	sets     *Sets[T, K, V, S]
	id       T
	at       int // in Sets.list
	len      int // members
	groups   []group[S]
	byKey    map[K]ref // only of a large topic
	bySource map[S]int // index in groups; only of a large topic
}

type group[S comparable] struct {
	source  S
	members []ref
}

// smallTopic is the number of members up to which a topic is searched one by
// one. Most topics have a handful, and a map is larger than they are.
const smallTopic = 16

// NewSets returns empty sets. The function, if there is one, is called with every
// member that is removed, for all reasons; it must not call the sets.
func NewSets[T, K comparable, V any, S comparable](limits Limits, removed func(T, K, V, Reason)) *Sets[T, K, V, S] {
	s := &Sets[T, K, V, S]{topics: make(map[T]*topic[T, K, V, S]), removed: removed}
	s.pool = newPool(limits, s.forget)
	s.pool.moved = s.regroup
	return s
}

// GroupBy groups sources by network, as that of Map does. Topics do not know
// networks: their limit and their samples go by source.
func (s *Sets[T, K, V, S]) GroupBy(networkOf func(S) (netip.Prefix, bool)) *Sets[T, K, V, S] {
	s.pool.networkOf = networkOf
	s.pool.byNetwork = make(map[uint64]ref)
	return s
}

// Put adds a member to a topic or replaces its value, makes it the newest, and
// reports whether it is new.
func (s *Sets[T, K, V, S]) Put(now time.Time, id T, key K, value V, source S) (added bool) {
	s.pool.expire(now)
	if t := s.topics[id]; t != nil {
		if r := t.find(key); r != 0 {
			s.pool.payload(r).value = value
			s.pool.claim(now, r, source)
			return false
		}
		if most := s.pool.limits.PerTopic; most > 0 && t.len >= most {
			s.pool.remove(t.victim(source), Evicted)
		}
	}
	s.pool.makeRoom(source, 0)
	t := s.topics[id] // making room may have removed it
	if t == nil {
		t = &topic[T, K, V, S]{sets: s, id: id, at: len(s.list)}
		s.topics[id] = t
		s.list = append(s.list, t)
	}
	t.add(s.pool.add(now, source, 0, member[T, K, V, S]{topic: t, key: key, value: value}), key, source)
	return true
}

// Get returns the value of a member and when it was last put.
func (s *Sets[T, K, V, S]) Get(now time.Time, id T, key K) (value V, stamp time.Time, ok bool) {
	s.pool.expire(now)
	if t := s.topics[id]; t != nil {
		if r := t.find(key); r != 0 {
			return s.pool.payload(r).value, s.pool.stamp(r), true
		}
	}
	return value, stamp, false
}

// Delete removes a member from a topic and reports whether it was there.
func (s *Sets[T, K, V, S]) Delete(id T, key K) bool {
	t := s.topics[id]
	if t == nil {
		return false
	}
	r := t.find(key)
	if r == 0 {
		return false
	}
	s.pool.remove(r, Deleted)
	return true
}

// Size is the number of members of a topic.
func (s *Sets[T, K, V, S]) Size(now time.Time, id T) int {
	s.pool.expire(now)
	if t := s.topics[id]; t != nil {
		return t.len
	}
	return 0
}

// Members yields all members of a topic, in no order. The sets must not be
// changed meanwhile.
func (s *Sets[T, K, V, S]) Members(now time.Time, id T) iter.Seq2[K, V] {
	s.pool.expire(now)
	return func(yield func(K, V) bool) {
		t := s.topics[id]
		if t == nil {
			return
		}
		for _, g := range t.groups {
			for _, r := range g.members {
				m := s.pool.payload(r)
				if !yield(m.key, m.value) {
					return
				}
			}
		}
	}
}

// Sample yields up to n members of a topic, drawn at random without
// replacement: a member of each source first, in random order, then a second
// one of each, and so on. With one source, or one member a source, that is a
// uniform draw. Its cost is that of n, not of the topic. The sets must not be
// changed meanwhile.
func (s *Sets[T, K, V, S]) Sample(now time.Time, id T, n int, rnd *rand.Rand) iter.Seq2[K, V] {
	s.pool.expire(now)
	return func(yield func(K, V) bool) {
		t := s.topics[id]
		if t == nil {
			return
		}
		n := min(n, t.len)
		for round := 0; n > 0; round++ {
			for i := 0; i < len(t.groups) && n > 0; i++ {
				if round == 0 {
					t.swapGroups(i, i+rnd.IntN(len(t.groups)-i))
				}
				g := &t.groups[i]
				if round >= len(g.members) {
					continue
				}
				t.swapMembers(g, round, round+rnd.IntN(len(g.members)-round))
				m := s.pool.payload(g.members[round])
				if !yield(m.key, m.value) {
					return
				}
				n--
			}
		}
	}
}

// SampleTopics returns up to n topics that have members, drawn at random
// without replacement.
func (s *Sets[T, K, V, S]) SampleTopics(now time.Time, n int, rnd *rand.Rand) []T {
	s.pool.expire(now)
	n = min(n, len(s.list))
	out := make([]T, 0, n)
	for i := range n {
		s.swapTopics(i, i+rnd.IntN(len(s.list)-i))
		out = append(out, s.list[i].id)
	}
	return out
}

// Expire removes what is too old and returns how much that was. The other
// methods that take the time do so first by themselves.
func (s *Sets[T, K, V, S]) Expire(now time.Time) int { return s.pool.expire(now) }

// Deadline is when the oldest member will expire; false if none ever will.
func (s *Sets[T, K, V, S]) Deadline() (time.Time, bool) { return s.pool.deadline() }

// Len is the number of members of all topics.
func (s *Sets[T, K, V, S]) Len() int { return int(s.pool.all.len) }

// Topics is the number of topics that have members.
func (s *Sets[T, K, V, S]) Topics() int { return len(s.list) }

// Stats returns the counters.
func (s *Sets[T, K, V, S]) Stats() Stats {
	st := s.pool.snapshot()
	st.Topics = len(s.list)
	return st
}

func (s *Sets[T, K, V, S]) forget(m *member[T, K, V, S], source S, why Reason) {
	t, key, value := m.topic, m.key, m.value
	t.remove(m, source)
	if t.len == 0 {
		last := len(s.list) - 1
		s.swapTopics(t.at, last)
		s.list[last] = nil
		s.list = s.list[:last]
		delete(s.topics, t.id)
	}
	if s.removed != nil {
		s.removed(t.id, key, value, why)
	}
}

func (s *Sets[T, K, V, S]) regroup(m *member[T, K, V, S], from, to S) {
	r := m.topic.removeFrom(from, m)
	m.topic.addTo(to, r)
}

func (s *Sets[T, K, V, S]) swapTopics(i, j int) {
	s.list[i], s.list[j] = s.list[j], s.list[i]
	s.list[i].at, s.list[j].at = i, j
}

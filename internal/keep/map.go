package keep

import (
	"iter"
	"net/netip"
	"time"
)

// A Map keeps values under keys: one value a key. It belongs to one goroutine.
type Map[K comparable, V any, S comparable] struct {
	pool    pool[S, pair[K, V]]
	index   map[K]ref
	removed func(K, V, Reason)
}

type pair[K comparable, V any] struct {
	key   K
	value V
}

// NewMap returns an empty map. The function, if there is one, is called with
// every entry that is removed, for all reasons, but not with values that are
// replaced; it must not call the map.
func NewMap[K comparable, V any, S comparable](limits Limits, removed func(K, V, Reason)) *Map[K, V, S] {
	m := &Map[K, V, S]{index: make(map[K]ref), removed: removed}
	m.pool = newPool(limits, m.forget)
	return m
}

func (m *Map[K, V, S]) forget(p *pair[K, V], _ S, why Reason) {
	key, value := p.key, p.value
	delete(m.index, key)
	if m.removed != nil {
		m.removed(key, value, why)
	}
}

// GroupBy groups sources by network, of at most 56 bits: see the comment of the
// package, and Limits.PerNetwork. Where the function returns false, a source has
// no network: it is exempt from quotas and gives way like a network of its own.
// Call it before the first Put.
func (m *Map[K, V, S]) GroupBy(networkOf func(S) (netip.Prefix, bool)) *Map[K, V, S] {
	m.pool.networkOf = networkOf
	m.pool.byNetwork = make(map[uint64]ref)
	return m
}

// Put is PutSized of an entry that has no bytes.
func (m *Map[K, V, S]) Put(now time.Time, key K, value V, source S) (added bool) {
	return m.PutSized(now, key, value, 0, source)
}

// PutSized stores a value of so many bytes and makes it the newest, and reports
// whether the key is new. The map keeps the value, not a copy. What is larger
// than Limits.Bytes is not stored.
func (m *Map[K, V, S]) PutSized(now time.Time, key K, value V, size int, source S) (added bool) {
	m.pool.expire(now)
	if !m.pool.fits(size) {
		return false
	}
	if r := m.index[key]; r != 0 {
		m.pool.payload(r).value = value
		m.pool.claim(now, r, source)
		m.pool.resize(r, size)
		return false
	}
	m.pool.makeRoom(source, size)
	m.index[key] = m.pool.add(now, source, size, pair[K, V]{key, value})
	return true
}

// Get returns the value under a key and when it was last put or renewed.
func (m *Map[K, V, S]) Get(now time.Time, key K) (value V, stamp time.Time, ok bool) {
	m.pool.expire(now)
	r := m.index[key]
	if r == 0 {
		return value, stamp, false
	}
	return m.pool.payload(r).value, m.pool.stamp(r), true
}

// Renew makes an entry the newest, as if it were put again.
func (m *Map[K, V, S]) Renew(now time.Time, key K) {
	if r := m.index[key]; r != 0 {
		m.pool.renew(now, r)
	}
}

// Delete removes an entry and reports whether it was there.
func (m *Map[K, V, S]) Delete(key K) bool {
	r := m.index[key]
	if r == 0 {
		return false
	}
	m.pool.remove(r, Deleted)
	return true
}

// Expire removes what is too old and returns how much that was. The other
// methods that take the time do so first by themselves.
func (m *Map[K, V, S]) Expire(now time.Time) int { return m.pool.expire(now) }

// Deadline is when the oldest entry will expire; false if none ever will.
func (m *Map[K, V, S]) Deadline() (time.Time, bool) { return m.pool.deadline() }

// Len is the number of entries held.
func (m *Map[K, V, S]) Len() int { return len(m.index) }

// All yields the entries, oldest first. The map must not be changed meanwhile.
func (m *Map[K, V, S]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for r := m.pool.all.oldest; r != 0; {
			e := m.pool.entries.at(r)
			if !yield(e.payload.key, e.payload.value) {
				return
			}
			r = e.next[ofAll]
		}
	}
}

// Stats returns the counters.
func (m *Map[K, V, S]) Stats() Stats { return m.pool.snapshot() }

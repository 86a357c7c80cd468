package keep

import (
	"iter"
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

// NewMap returns an empty map. The function, if there is one, is told of every
// entry that goes for whatever reason, but not of values that are replaced; it
// must not call the map.
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

// Put stores a value and makes it the newest, and reports whether the key is
// new. The map keeps the value, not a copy.
func (m *Map[K, V, S]) Put(now time.Time, key K, value V, source S) (added bool) {
	m.pool.expire(now)
	if r := m.index[key]; r != 0 {
		m.pool.payload(r).value = value
		m.pool.claim(now, r, source)
		return false
	}
	m.pool.makeRoom(source)
	m.index[key] = m.pool.add(now, source, pair[K, V]{key, value})
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
			r = e.next[byAge]
		}
	}
}

// Stats returns the counters.
func (m *Map[K, V, S]) Stats() Stats { return m.pool.snapshot() }

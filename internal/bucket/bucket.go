// Package bucket holds token buckets by key in bounded memory, for limits by
// source. Whose buckets they are, who is exempt and what a token is worth, its
// users say.
package bucket

import (
	"hash/maphash"

	"golang.org/x/time/rate"
)

// size is a power of two: 4,096 buckets, 400 KB when all are in use.
const size = 1 << 12

// A Table has a token bucket for each key, in a fixed number of places: keys that
// fall on the same place share it. Where a key falls cannot be predicted. Not
// safe for concurrent use.
type Table[K comparable] struct {
	rate    rate.Limit
	burst   int
	seed    maphash.Seed
	buckets []*rate.Limiter
}

// New returns a table of full buckets of burst tokens, each refilled with so many
// tokens a second.
func New[K comparable](perSecond, burst int) *Table[K] {
	return &Table[K]{rate: rate.Limit(perSecond), burst: burst, seed: maphash.MakeSeed()}
}

// Of returns the bucket of a key.
func (t *Table[K]) Of(key K) *rate.Limiter {
	if t.buckets == nil {
		t.buckets = make([]*rate.Limiter, size)
	}
	b := &t.buckets[maphash.Comparable(t.seed, key)%size]
	if *b == nil {
		*b = rate.NewLimiter(t.rate, t.burst)
	}
	return *b
}

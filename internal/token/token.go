// Package token issues and checks round-trip tokens: proofs that a requester
// can receive at the IP address it sends from. They are made from two rotating
// secrets by a hash that the protocol passes in: SHA-1 over the address for
// the BitTorrent DHT (BEP 5), keyed BLAKE2b over its text for dht-rpc v6
// (docs/spec/dht-rpc.md §3), SHA-256 for its first version
// (docs/spec/dht-rpc-v2.md §5).
package token

import (
	"crypto/subtle"
	"net/netip"
	"time"
)

// MaxSize is the size of a secret and of the longest token.
const MaxSize = 32

// maxHosts bounds the tokens that are remembered. A host that is not
// remembered costs a hash, so a flood from many addresses costs no memory.
const maxHosts = 1024

// Hash makes the token of an address from a secret.
type Hash func(secret *[MaxSize]byte, ip netip.Addr) [MaxSize]byte

// Secrets are the current and the previous secret. The current one signs; both
// are accepted. A secret signs for one period and is accepted for two, so a
// token lives between one and two periods. Secrets rotate when they are used,
// not by a timer. Owned by one goroutine.
//
// The times passed in are what time.Now returned. Their monotonic clock counts,
// so a wall clock that is set changes nothing, and a token may outlive its time
// by as long as the machine sleeps. Should times have no monotonic clock and go
// back by a period or more, both secrets are replaced: no token is valid until
// the clock has caught up.
type Secrets struct {
	size   int
	period time.Duration
	hash   Hash
	random func([]byte)

	since             time.Time // when current began to sign; zero if it never has
	current, previous [MaxSize]byte
	issued            map[netip.Addr][MaxSize]byte // tokens of current
}

// New returns secrets that rotate every period and sign tokens of size bytes,
// the first ones of what hash returns. Random fills a secret with random bytes.
func New(size int, period time.Duration, hash Hash, random func([]byte)) *Secrets {
	if size < 1 || size > MaxSize {
		panic("BUG: token: size out of range")
	}
	return &Secrets{size: size, period: period, hash: hash, random: random}
}

// Set replaces both secrets, as if current had begun to sign now.
func (s *Secrets) Set(now time.Time, previous, current [MaxSize]byte) {
	s.since, s.previous, s.current = now, previous, current
	clear(s.issued)
}

// Issue returns the token of an address. The first size bytes count.
func (s *Secrets) Issue(now time.Time, ip netip.Addr) [MaxSize]byte {
	s.rotate(now)
	if t, ok := s.issued[ip]; ok {
		return t
	}
	t := s.hash(&s.current, ip)
	if s.issued == nil {
		s.issued = make(map[netip.Addr][MaxSize]byte)
	}
	if len(s.issued) >= maxHosts {
		clear(s.issued)
	}
	s.issued[ip] = t
	return t
}

// Valid reports whether token was issued to the address at most two periods
// ago. It takes the same time for every wrong token of the right size.
func (s *Secrets) Valid(now time.Time, ip netip.Addr, token []byte) bool {
	if len(token) != s.size || s.since.IsZero() {
		return false
	}
	c := s.Issue(now, ip)
	p := s.hash(&s.previous, ip)
	return subtle.ConstantTimeCompare(token, c[:s.size])|subtle.ConstantTimeCompare(token, p[:s.size]) == 1
}

// rotate makes the secrets those of the period in which now lies.
func (s *Secrets) rotate(now time.Time) {
	age := now.Sub(s.since)
	switch {
	case s.since.IsZero() || age <= -s.period || age >= 2*s.period:
		s.since = now
		s.random(s.previous[:])
	case age < s.period:
		return
	default:
		s.since = s.since.Add(s.period)
		s.previous = s.current
	}
	s.random(s.current[:])
	clear(s.issued)
}

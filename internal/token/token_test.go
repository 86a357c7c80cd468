package token

import (
	"crypto/sha256"
	"net/netip"
	"testing"
	"time"
)

func testHash(secret *[32]byte, ip netip.Addr) [32]byte {
	return sha256.Sum256(append(secret[:], ip.AsSlice()...))
}

func newTest(size int) *Secrets {
	n := byte(0)
	return New(size, 10*time.Second, testHash, func(b []byte) {
		for i := range b {
			n++
			b[i] = n
		}
	})
}

var (
	start = time.Unix(1e9, 0)
	alice = netip.MustParseAddr("203.0.113.7")
	bob   = netip.MustParseAddr("203.0.113.8")
)

func TestTokenLivesOneToTwoPeriods(t *testing.T) {
	for _, tc := range []struct {
		name          string
		issued, asked time.Duration
		want          bool
	}{
		{"at once", 0, 0, true},
		{"within the period", 0, 9 * time.Second, true},
		{"in the next period", 0, 19 * time.Second, true},
		{"after two periods", 0, 20 * time.Second, false},
		{"late in the period, in the next", 9 * time.Second, 19 * time.Second, true},
		{"late in the period, after the next", 9 * time.Second, 20 * time.Second, false},
		{"long after", 0, time.Hour, false},
	} {
		s := newTest(32)
		s.Issue(start, bob) // the first period begins
		tok := s.Issue(start.Add(tc.issued), alice)
		if got := s.Valid(start.Add(tc.asked), alice, tok[:]); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// Times without a monotonic clock that go back: a token is not valid until the
// clock has caught up, and a little disorder changes nothing.
func TestClockGoesBack(t *testing.T) {
	s := newTest(32)
	tok := s.Issue(start, alice)
	if !s.Valid(start.Add(-time.Millisecond), alice, tok[:]) {
		t.Error("a reading that is a little older made the token invalid")
	}
	for _, at := range []time.Duration{-5 * 24 * time.Hour, -5*24*time.Hour + time.Second, 0, time.Second} {
		if s.Valid(start.Add(at), alice, tok[:]) {
			t.Errorf("at %v the token of before is valid", at)
		}
	}
	fresh := s.Issue(start.Add(-5*24*time.Hour), alice)
	if fresh == tok || !s.Valid(start.Add(-5*24*time.Hour), alice, fresh[:]) {
		t.Error("no new token since the clock went back")
	}
}

func TestTokenIsBoundToAddress(t *testing.T) {
	s := newTest(8)
	if s.Valid(start, alice, make([]byte, 8)) {
		t.Error("a token was valid before one was issued")
	}
	tok := s.Issue(start, alice)
	if !s.Valid(start, alice, tok[:8]) {
		t.Error("own token refused")
	}
	if s.Valid(start, bob, tok[:8]) {
		t.Error("another address's token accepted")
	}
	for _, n := range []int{0, 7, 9, 32} {
		if s.Valid(start, alice, tok[:n]) {
			t.Errorf("a token of %d bytes accepted", n)
		}
	}
	tok[0] ^= 1
	if s.Valid(start, alice, tok[:8]) {
		t.Error("a changed token accepted")
	}
}

func TestSet(t *testing.T) {
	s := newTest(32)
	prev, cur := [32]byte{1}, [32]byte{2}
	s.Issue(start, alice)
	s.Set(start, prev, cur)
	p, c := testHash(&prev, alice), testHash(&cur, alice)
	if s.Issue(start, alice) != c {
		t.Error("token not made from the current secret")
	}
	if !s.Valid(start, alice, p[:]) || !s.Valid(start, alice, c[:]) {
		t.Error("token of a secret refused")
	}
}

func TestRememberedTokensAreBounded(t *testing.T) {
	s := newTest(32)
	ip := netip.MustParseAddr("10.0.0.0")
	for range 3 * maxHosts {
		ip = ip.Next()
		s.Issue(start, ip)
		if len(s.issued) > maxHosts {
			t.Fatalf("%d tokens remembered", len(s.issued))
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.Issue(start, ip) }); n != 0 {
		t.Errorf("a remembered token cost %v allocations", n)
	}
}

package noise

import (
	"crypto/rand"
	"testing"

	"filippo.io/edwards25519"
)

// multipliesToIdentity is the definition: L times the point is the identity,
// which the point itself is not.
func multipliesToIdentity(t testing.TB, p *edwards25519.Point) bool {
	t.Helper()
	one, err := edwards25519.NewScalar().SetCanonicalBytes(append([]byte{1}, make([]byte, 31)...))
	if err != nil {
		t.Fatal(err)
	}
	minusOne := edwards25519.NewScalar().Negate(one) // L-1
	product := new(edwards25519.Point).ScalarMult(minusOne, p)
	product.Add(product, p)
	identity := edwards25519.NewIdentityPoint()
	return product.Equal(identity) == 1 && p.Equal(identity) == 0
}

func TestSubgroup(t *testing.T) {
	var order8 edwards25519.Point
	if _, err := order8.SetBytes(unhexKey("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")); err != nil {
		t.Fatal(err)
	}
	points, inside := 0, 0
	for range 100 {
		var b PublicKey
		rand.Read(b[:])
		p, err := new(edwards25519.Point).SetBytes(b[:])
		if err != nil {
			continue // half of all strings are not on the curve
		}
		for range 8 {
			k := PublicKey(p.Bytes())
			want := multipliesToIdentity(t, p)
			if got := inSubgroup(&k); got != want {
				t.Fatalf("%v: in the subgroup %v, want %v", k, got, want)
			}
			if points++; want {
				inside++
			}
			p.Add(p, &order8)
		}
	}
	// Of the eight cosets one is the subgroup.
	if points == 0 || inside*8 != points {
		t.Errorf("%d of %d points are in the subgroup", inside, points)
	}
	small := edwards25519.NewIdentityPoint()
	for i := range 8 {
		if k := PublicKey(small.Bytes()); inSubgroup(&k) {
			t.Errorf("%d times the point of order 8 is in the subgroup", i)
		}
		small.Add(small, &order8)
	}
}

func FuzzSubgroup(f *testing.F) {
	for _, e := range load(f).DHRejected {
		f.Add([]byte(e.PublicKey))
	}
	for _, e := range load(f).KeyPairs {
		f.Add([]byte(e.PublicKey))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != 32 {
			return
		}
		k := PublicKey(b)
		p, err := new(edwards25519.Point).SetBytes(b)
		if err != nil {
			return
		}
		if got, want := inSubgroup(&k), multipliesToIdentity(t, p); got != want {
			t.Fatalf("%v: in the subgroup %v, want %v", k, got, want)
		}
	})
}

func BenchmarkParsePoint(b *testing.B) {
	k := GenerateKeyPair().Public
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parsePoint(k); err != nil {
			b.Fatal(err)
		}
	}
}

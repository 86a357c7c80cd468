package sodium

import (
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"filippo.io/edwards25519"
)

// An oddSigner signs with a key and a nonce to each of which a point of small
// order is added.
type oddSigner struct {
	secret     *edwards25519.Scalar
	key, nonce *edwards25519.Point
}

func (s *oddSigner) sign(rnd *rand.Rand, message []byte) (key [32]byte, sig [64]byte) {
	nonce := randomScalar(rnd)
	point := new(edwards25519.Point)
	copy(key[:], point.Add(point.ScalarBaseMult(s.secret), s.key).Bytes())
	copy(sig[:], point.Add(point.ScalarBaseMult(nonce), s.nonce).Bytes())
	digest := sha512.Sum512(slices.Concat(sig[:32], key[:], message))
	copy(sig[32:], nonce.MultiplyAdd(uniform(&digest), s.secret, nonce).Bytes())
	return key, sig
}

func randomScalar(rnd *rand.Rand) *edwards25519.Scalar {
	var b [64]byte
	for i := range 8 {
		binary.LittleEndian.PutUint64(b[8*i:], rnd.Uint64())
	}
	return uniform(&b)
}

// torsion returns the eight points whose order divides 8.
func torsion(t testing.TB) (points [8]*edwards25519.Point) {
	eighth, err := new(edwards25519.Point).SetBytes(smallOrderY[2][:])
	if err != nil {
		t.Fatal(err)
	}
	points[0] = edwards25519.NewIdentityPoint()
	for i := range 7 {
		points[i+1] = new(edwards25519.Point).Add(points[i], eighth)
	}
	return points
}

// expected is what VerifyDetached must say: crypto/ed25519 computes the same
// sum in another way.
func expected(key *[32]byte, message []byte, sig *[64]byte) bool {
	return UsablePoint(key) && UsablePoint((*[32]byte)(sig[:32])) && ed25519.Verify(key[:], message, sig[:])
}

// For keys and nonces outside of the subgroup of order L the sum is 0 for some
// messages and not for others.
func TestVerifyDetached(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	valid, invalid := 0, 0
	for i, a := range torsion(t) {
		for j, r := range torsion(t) {
			s := oddSigner{randomScalar(rnd), a, r}
			for n := range 20 {
				message := binary.LittleEndian.AppendUint64(nil, uint64(n))
				key, sig := s.sign(rnd, message)
				want := expected(&key, message, &sig)
				if got := VerifyDetached(&key, message, &sig); got != want {
					t.Fatalf("torsion %d and %d: %v, want %v\nkey %x\nsignature %x\nmessage %x", i, j, got, want, key, sig, message)
				}
				if want {
					valid++
				} else {
					invalid++
				}
				changed := sig
				changed[rnd.IntN(64)] ^= 1 << rnd.IntN(8)
				if VerifyDetached(&key, message, &changed) {
					t.Fatalf("%x verifies, changed from %x", changed, sig)
				}
			}
		}
	}
	if valid < 100 || invalid < 800 {
		t.Errorf("%d were valid, %d not: the test tests nothing", valid, invalid)
	}
}

// s + L signs as well as s, but is not canonical.
func TestVerifyDetachedRefusesLongScalar(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	public := (*[32]byte)(key.Public().(ed25519.PublicKey))
	sig := (*[64]byte)(ed25519.Sign(key, nil))
	if !VerifyDetached(public, nil, sig) {
		t.Fatal("a good signature does not verify")
	}
	s := limbsOf((*[32]byte)(sig[32:]))
	s.addProduct(1, &limbs{0x5812631a5cf5d3ed, 0x14def9dea2f79cd6, 0, 0x1000000000000000})
	long := s.bytes()
	copy(sig[32:], long[:])
	if VerifyDetached(public, nil, sig) {
		t.Error("s + L passes")
	}
}

// docs/spec/hyperdht-records.md §19: "libsodium rejects them when verifying,
// Go's ed25519.Verify does not. Check for small order and canonical encoding."
func TestVerifyDetachedRefusesSmallOrder(t *testing.T) {
	identity := [32]byte{1}
	message := []byte("anything")
	// With the identity as key and R, and S = 0, every message verifies.
	var sig [64]byte
	copy(sig[:], identity[:])
	if !ed25519.Verify(identity[:], message, sig[:]) {
		t.Fatal("the premise does not hold")
	}
	if VerifyDetached(&identity, message, &sig) {
		t.Error("a key of small order signs everything")
	}
	for i, p := range torsion(t) {
		enc := [32]byte(p.Bytes())
		for _, sign := range []byte{0, 0x80} {
			flipped := enc
			flipped[31] ^= sign
			if UsablePoint(&flipped) {
				t.Errorf("%d times the point of order 8, %x, is not seen as small", i, flipped)
			}
		}
	}
	for i := range 19 { // p to 2^255-1 as y
		enc := smallOrderY[5]
		enc[0] += byte(i)
		if canonical(&enc) {
			t.Errorf("%x passes as canonical", enc)
		}
	}
	below := smallOrderY[4]
	if !canonical(&below) {
		t.Error("p-1 is canonical")
	}
}

func FuzzVerifyDetached(f *testing.F) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, a := range torsion(f) {
		s := oddSigner{randomScalar(rnd), a, a}
		key, sig := s.sign(rnd, []byte("message"))
		f.Add(key[:], []byte("message"), sig[:])
	}
	f.Fuzz(func(t *testing.T, k, message, s []byte) {
		var key [32]byte
		var sig [64]byte
		copy(key[:], k)
		copy(sig[:], s)
		if got, want := VerifyDetached(&key, message, &sig), expected(&key, message, &sig); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

func (n limbs) big() *big.Int {
	b := n.magnitude().bytes()
	slices.Reverse(b[:])
	v := new(big.Int).SetBytes(b[:])
	if n.negative() {
		v.Neg(v)
	}
	return v
}

// checkHalf checks what halfSize makes of h, and returns its length.
func checkHalf(t *testing.T, h *[32]byte) (length int) {
	t.Helper()
	n, d := halfSize(h)
	if d[0]&1 == 0 {
		t.Fatalf("h %x: d is even", *h)
	}
	diff := new(big.Int).Mul(limbsOf(h).big(), d.big())
	if diff.Sub(diff, n.big()).Mod(diff, order8.big()).Sign() != 0 {
		t.Fatalf("h %x: n is not hd", *h)
	}
	length = max(n.big().BitLen(), d.big().BitLen())
	if n.negative() || length > 253 {
		t.Fatalf("h %x: n is %v, d is %v", *h, n.big(), d.big())
	}
	return length
}

func TestHalfSize(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	longest, sum := 0, 0
	const tries = 20000
	for range tries {
		length := checkHalf(t, (*[32]byte)(randomScalar(rnd).Bytes()))
		longest, sum = max(longest, length), sum+length
	}
	if longest > 145 || sum/tries > 129 {
		t.Errorf("%d bits on average, up to %d", sum/tries, longest)
	}
}

// Numbers whose quotients are long, as no hash will ever be: powers of two, and
// the order divided by them, and those next to them.
func TestHalfSizeOfOddNumbers(t *testing.T) {
	for i := range 252 {
		power := new(big.Int).Lsh(big.NewInt(1), uint(i))
		for _, v := range []*big.Int{power, new(big.Int).Div(order8.big(), new(big.Int).Lsh(power, 3))} {
			for delta := range int64(5) {
				x := new(big.Int).Add(v, big.NewInt(delta-2))
				if x.Sign() < 0 || x.BitLen() > 252 {
					continue
				}
				var h [32]byte
				x.FillBytes(h[:])
				slices.Reverse(h[:])
				checkHalf(t, &h)
			}
		}
	}
}

// BenchmarkVerifyDetached compares with the standard library's check.
func BenchmarkVerifyDetached(b *testing.B) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	public, message := key.Public().(ed25519.PublicKey), make([]byte, 64)
	sig := ed25519.Sign(key, message)
	for _, c := range []struct {
		name   string
		verify func() bool
	}{
		{"ours", func() bool { return VerifyDetached((*[32]byte)(public), message, (*[64]byte)(sig)) }},
		{"crypto-ed25519", func() bool { return ed25519.Verify(public, message, sig) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if !c.verify() {
					b.Fatal("a good signature does not verify")
				}
			}
		})
	}
}

package noise

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"filippo.io/edwards25519"
)

func TestKeyVectors(t *testing.T) {
	v := load(t)
	for _, e := range v.KeyPairs {
		k := pair(e.Seed)
		if !bytes.Equal(k.Public[:], e.PublicKey) || !bytes.Equal(k.Secret[:], e.SecretKey) {
			t.Errorf("key pair of %x = %x %x, want %x %x", e.Seed, k.Public, k.Secret, e.PublicKey, e.SecretKey)
		}
		if got := k.Public.Z32(); got != e.Z32 {
			t.Errorf("%v in z-base-32 is %v, want %v", k.Public, got, e.Z32)
		}
		for _, s := range []string{k.Public.String(), e.Z32} {
			if got, err := ParsePublicKey(s); err != nil || got != k.Public {
				t.Errorf("%s is read as %v, %v", s, got, err)
			}
		}
		h := sha512.Sum512(e.Seed)
		h[0] &= 248
		h[31] = h[31]&127 | 64
		if !bytes.Equal(h[:32], e.Scalar) {
			t.Errorf("scalar %x, want %x", h[:32], e.Scalar)
		}
		sig := k.Sign([]byte("m"))
		if !ed25519.Verify(k.Public[:], []byte("m"), sig[:]) {
			t.Errorf("signature of %v does not verify", k)
		}
	}
	for _, e := range v.DH {
		if got, err := pair(e.SecretSeed).DH(PublicKey(e.PublicKey)); err != nil || !bytes.Equal(got[:], e.Shared) {
			t.Errorf("DH(%x, %x) = %x, %v, want %x", e.SecretSeed, e.PublicKey, got, err, e.Shared)
		}
	}
	for _, e := range v.DHScalar {
		if got, err := (ScalarKey{Scalar: [32]byte(e.Scalar)}).DH(PublicKey(e.PublicKey)); err != nil || !bytes.Equal(got[:], e.Shared) {
			t.Errorf("DH(scalar %x, %x) = %x, %v, want %x", e.Scalar, e.PublicKey, got, err, e.Shared)
		}
	}
	for _, e := range v.DHRejected {
		for _, k := range []StaticKey{GenerateKeyPair(), ScalarKey{Scalar: [32]byte{1}}} {
			if got, err := k.DH(PublicKey(e.PublicKey)); !errors.Is(err, ErrInvalidKey) {
				t.Errorf("%s: DH = %x, %v", e.Why, got, err)
			}
		}
	}
	if got, err := (ScalarKey{}).DH(GenerateKeyPair().Public); err == nil {
		t.Errorf("DH with a scalar of zero = %x", got)
	}
}

// Every point of the eight small-order ones added to a good key is refused, and
// so is every encoding of a small-order point, of which some are not canonical.
func TestSmallOrder(t *testing.T) {
	var order8 edwards25519.Point
	if _, err := order8.SetBytes(unhexKey("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")); err != nil {
		t.Fatal(err)
	}
	good := GenerateKeyPair().Public
	var sum edwards25519.Point
	if _, err := sum.SetBytes(good[:]); err != nil {
		t.Fatal(err)
	}
	small := edwards25519.NewIdentityPoint()
	for i := range 8 {
		_, err := parsePoint(PublicKey(sum.Bytes()))
		if (err == nil) != (i == 0) {
			t.Errorf("key plus %d times the point of order 8: %v", i, err)
		}
		k := PublicKey(small.Bytes())
		if _, err := parsePoint(k); err == nil {
			t.Errorf("%d times the point of order 8 accepted", i)
		}
		k[31] ^= 0x80
		if _, err := parsePoint(k); err == nil {
			t.Errorf("%d times the point of order 8, other sign, accepted", i)
		}
		sum.Add(&sum, &order8)
		small.Add(small, &order8)
	}
	// All of the 19 encodings of a y that is not reduced.
	for low := range 19 {
		k := PublicKey(bytes.Repeat([]byte{0xff}, 32))
		k[0], k[31] = byte(0xed+low), 0x7f
		if canonical(&k) {
			t.Errorf("%x passes as canonical", k)
		}
		if _, err := parsePoint(k); err == nil {
			t.Errorf("%x accepted", k)
		}
	}
}

func unhexKey(s string) []byte {
	k, err := ParsePublicKey(s)
	if err != nil {
		panic(err)
	}
	return k[:]
}

func TestParsePublicKeyVectors(t *testing.T) {
	v := load(t).IDs
	for _, e := range v.Valid {
		if k, err := ParsePublicKey(e.In); err != nil || !bytes.Equal(k[:], e.Out) {
			t.Errorf("%q = %x, %v, want %x", e.In, k, err, e.Out)
		}
	}
	for _, e := range v.Invalid {
		if k, err := ParsePublicKey(e.In); !errors.Is(err, ErrKey) {
			t.Errorf("%q = %v, %v", e.In, k, err)
		}
	}
	if k, err := ParsePublicKey(v.Trailing.Accepted); err != nil || k.Z32() != v.Trailing.Canonical || !bytes.Equal(k[:], v.Trailing.Out) {
		t.Errorf("%q = %v, %v", v.Trailing.Accepted, k, err)
	}
}

func TestPublicKeyInJSON(t *testing.T) {
	k := GenerateKeyPair().Public
	b, err := json.Marshal(map[string]PublicKey{"key": k})
	if err != nil || string(b) != `{"key":"`+k.String()+`"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var got map[string]PublicKey
	if err := json.Unmarshal(b, &got); err != nil || got["key"] != k {
		t.Fatalf("%v, %v", got, err)
	}
	if err := json.Unmarshal([]byte(`{"key":"abc"}`), &got); !errors.Is(err, ErrKey) {
		t.Fatalf("read %v, %v", got, err)
	}
}

func TestFormattingKeepsSecrets(t *testing.T) {
	k := KeyPairFromSeed([32]byte{0xab, 0xcd})
	s := ScalarKey{Public: k.Public, Scalar: [32]byte{0xab, 0xcd}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, v := range []any{k, &k, s, &s} {
			if got := fmt.Sprintf(verb, v); !strings.Contains(got, k.Public.String()) || len(got) > 102 {
				t.Errorf("%s prints %s", verb, got)
			}
		}
	}
}

func FuzzParsePublicKey(f *testing.F) {
	v := load(f).IDs
	for _, e := range v.Valid {
		f.Add(e.In)
	}
	for _, e := range v.Invalid {
		f.Add(e.In)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParsePublicKey(s)
		if err != nil {
			return
		}
		for _, text := range []string{k.String(), k.Z32()} {
			if again, err := ParsePublicKey(text); err != nil || again != k {
				t.Fatalf("%q is %s, which is %v, %v", s, text, again, err)
			}
		}
	})
}

// DH agrees between the ends for every key that is accepted.
func FuzzDH(f *testing.F) {
	for _, e := range load(f).DHRejected {
		f.Add([]byte(e.PublicKey))
	}
	f.Add(unhexKey("8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"))
	a, b := ScalarKey{Scalar: [32]byte{2}}, ScalarKey{Scalar: [32]byte{3}}
	f.Fuzz(func(t *testing.T, key []byte) {
		if len(key) != 32 {
			return
		}
		ka, err := a.DH(PublicKey(key))
		kb, err2 := b.DH(PublicKey(key))
		if (err == nil) != (err2 == nil) {
			t.Fatal(err, err2)
		}
		if err != nil {
			return
		}
		kab, err := b.DH(ka)
		if err != nil {
			t.Fatalf("the product %x is not a valid point", ka)
		}
		if kba, err := a.DH(kb); err != nil || kab != kba {
			t.Fatalf("%x and %x", kab, kba)
		}
	})
}

// Command cryptobench tells what the primitives cost in Go on this machine (ns per call or
// MB/s), the other half of W8; js/cryptobench.js is the peers' side.
//
//	stream 64K/1400: one message of a secretstream-shaped cipher. "aead" is
//	x/crypto/chacha20poly1305 (its assembly does both halves at once), "split"
//	is x/crypto/chacha20 alone (generic Go on amd64), which a plain port of
//	libsodium's secretstream would use, before its Poly1305.
package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"time"

	"filippo.io/edwards25519"
	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/warren-dht/warren/bench/internal/measure"
)

// ns is what a call takes in nanoseconds, the best of five rounds.
func ns(f func()) float64 {
	best := 1e18
	for r := 0; r < 5; r++ {
		n := 0
		t := time.Now()
		for time.Since(t) < 60*time.Millisecond {
			for i := 0; i < 8; i++ {
				f()
			}
			n += 8
		}
		best = min(best, float64(time.Since(t).Nanoseconds())/float64(n))
	}
	return best
}

func main() {
	r := map[string]any{"w": "cryptobench", "impl": "go"}
	key := make([]byte, 32)
	a, _ := chacha20poly1305.New(key)
	x, _ := chacha20poly1305.NewX(key)
	blk, _ := aes.NewCipher(key)
	g, _ := cipher.NewGCM(blk)
	nonce := make([]byte, 24)
	for _, s := range []struct {
		n    string
		size int
	}{{"64k", 65536}, {"1400", 1400}, {"64", 64}} {
		p := make([]byte, s.size)
		out := make([]byte, 0, s.size+64)
		c := a.Seal(nil, nonce[:12], p, nil)
		mb := func(f func()) float64 { return float64(s.size) / ns(f) * 1e3 }
		r["chacha20poly1305_seal_"+s.n+"_mb_s"] = mb(func() { a.Seal(out, nonce[:12], p, nil) })
		r["chacha20poly1305_open_"+s.n+"_mb_s"] = mb(func() { a.Open(out, nonce[:12], c, nil) })
		r["xchacha20poly1305_seal_"+s.n+"_mb_s"] = mb(func() { x.Seal(out, nonce, p, nil) })
		r["aes256gcm_seal_"+s.n+"_mb_s"] = mb(func() { g.Seal(out, nonce[:12], p, nil) })
		r["chacha20_generic_"+s.n+"_mb_s"] = mb(func() {
			k, _ := chacha20.NewUnauthenticatedCipher(key, nonce[:12])
			k.XORKeyStream(p, p)
		})
	}
	m6 := make([]byte, 6)
	r["blake2b256_6B_ns"] = ns(func() { blake2b.Sum256(m6) })
	m100 := make([]byte, 100)
	r["blake2b256_100B_ns"] = ns(func() { blake2b.Sum256(m100) })
	h, _ := blake2b.New256(key)
	r["blake2b256_keyed_9B_ns"] = ns(func() { h.Reset(); h.Write(m6); h.Sum(nil) })
	pub, priv, _ := ed25519.GenerateKey(rand.Reader)
	sig := ed25519.Sign(priv, m100)
	r["ed25519_keypair_us"] = ns(func() { ed25519.GenerateKey(rand.Reader) }) / 1e3
	r["ed25519_sign_us"] = ns(func() { ed25519.Sign(priv, m100) }) / 1e3
	r["ed25519_verify_us"] = ns(func() { ed25519.Verify(pub, m100, sig) }) / 1e3
	sc, _ := edwards25519.NewScalar().SetUniformBytes(make([]byte, 64))
	pt, _ := new(edwards25519.Point).SetBytes(pub)
	one := make([]byte, 64)
	one[3], one[40] = 9, 7
	sc, _ = edwards25519.NewScalar().SetUniformBytes(one)
	r["ed25519_dh_us"] = ns(func() {
		q, _ := pt.SetBytes(pub)
		new(edwards25519.Point).ScalarMult(sc, q).Bytes()
	}) / 1e3
	xk, _ := ecdh.X25519().GenerateKey(rand.Reader)
	xk2, _ := ecdh.X25519().GenerateKey(rand.Reader)
	r["x25519_dh_us"] = ns(func() { xk.ECDH(xk2.PublicKey()) }) / 1e3
	measure.Out(r)
}

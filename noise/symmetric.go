package noise

import (
	"encoding/binary"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/chacha20poly1305"
)

const (
	hashSize  = blake2b.Size      // HASHLEN
	blockSize = blake2b.BlockSize // BLOCKLEN
	tagSize   = chacha20poly1305.Overhead
)

// A symmetricState is section 5.2 of the Noise specification, the cipher state
// of section 5.1 included. A value.
type symmetricState struct {
	h, ck  [hashSize]byte
	k      [chacha20poly1305.KeySize]byte
	hasKey bool
	n      uint64
}

func (s *symmetricState) initializeSymmetric(protocol string) {
	copy(s.h[:], protocol) // never longer than the hash
	s.ck = s.h
}

func (s *symmetricState) mixHash(data []byte) {
	var buf [hashSize + 128]byte
	s.h = blake2b.Sum512(append(append(buf[:0], s.h[:]...), data...))
}

func (s *symmetricState) mixKey(material []byte) {
	ck, k := hkdf(&s.ck, material)
	s.ck = ck
	s.k, s.hasKey, s.n = [32]byte(k[:32]), true, 0
}

// nonce is 32 zero bits and the counter, section 12.3.
func (s *symmetricState) nonce() (nonce [chacha20poly1305.NonceSize]byte) {
	binary.LittleEndian.PutUint64(nonce[4:], s.n)
	return nonce
}

// encryptAndHash appends the sealed plaintext, or the plain one while there is
// no key.
func (s *symmetricState) encryptAndHash(dst, plaintext []byte) []byte {
	start := len(dst)
	if s.hasKey {
		aead, err := chacha20poly1305.New(s.k[:])
		if err != nil {
			panic("BUG: noise: " + err.Error())
		}
		nonce := s.nonce()
		dst = aead.Seal(dst, nonce[:], plaintext, s.h[:])
		s.n++
	} else {
		dst = append(dst, plaintext...)
	}
	s.mixHash(dst[start:])
	return dst
}

func (s *symmetricState) decryptAndHash(dst, ciphertext []byte) ([]byte, bool) {
	if len(ciphertext) > MaxCiphertext {
		return nil, false
	}
	if s.hasKey {
		aead, err := chacha20poly1305.New(s.k[:])
		if err != nil {
			panic("BUG: noise: " + err.Error())
		}
		nonce := s.nonce()
		dst, err = aead.Open(dst, nonce[:], ciphertext, s.h[:])
		if err != nil {
			return nil, false
		}
		s.n++
	} else {
		dst = append(dst, ciphertext...)
	}
	s.mixHash(ciphertext)
	return dst, true
}

// hkdf is HKDF of section 4.3 with two outputs.
func hkdf(ck *[hashSize]byte, material []byte) (o1, o2 [hashSize]byte) {
	prk := hmac(ck[:], material)
	o1 = hmac(prk[:], []byte{1})
	return o1, expand(&prk, &o1, 2)
}

// hkdf3 is HKDF with three outputs, of which the first two are hkdf's.
func hkdf3(ck *[hashSize]byte, material []byte) (o1, o2, o3 [hashSize]byte) {
	prk := hmac(ck[:], material)
	o1 = hmac(prk[:], []byte{1})
	o2 = expand(&prk, &o1, 2)
	return o1, o2, expand(&prk, &o2, 3)
}

// expand is the n-th output of HKDF, which follows from the one before it.
func expand(prk, before *[hashSize]byte, n byte) [hashSize]byte {
	var in [hashSize + 1]byte
	copy(in[:], before[:])
	in[hashSize] = n
	return hmac(prk[:], in[:])
}

// hmac is HMAC-BLAKE2b-512 of RFC 2104, over short data and without leaving
// the stack.
func hmac(key, data []byte) [hashSize]byte {
	var inner [blockSize + 128]byte
	var outer [blockSize + hashSize]byte
	copy(inner[:blockSize], key)
	copy(outer[:blockSize], key)
	for i := range blockSize {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	sum := blake2b.Sum512(append(inner[:blockSize], data...))
	copy(outer[blockSize:], sum[:])
	return blake2b.Sum512(outer[:])
}

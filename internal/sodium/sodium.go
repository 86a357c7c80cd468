// Package sodium holds the constructions of libsodium that HyperDHT uses and the
// Go libraries lack: generichash over several inputs, secretbox,
// crypto_secretstream_xchacha20poly1305, and the verification of Ed25519
// signatures, as strict as libsodium's and faster than crypto/ed25519. The
// groups and the handshake are in package noise.
//
// A sealed secretstream message is one byte of encrypted tag, the ciphertext,
// and the Poly1305 tag that authenticates both (docs/spec/secret-stream.md §8):
//
//	+-----+---------------------+------------------+
//	| tag |  message, n bytes   |  MAC, 16 bytes   |
//	+-----+---------------------+------------------+
//
// Left out: associated data of secretstream (nothing uses it), and everything
// of libsodium that crypto/... or golang.org/x/crypto does as it stands.
package sodium

import (
	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/nacl/secretbox"
)

// Sum256 is crypto_generichash without a key: BLAKE2b with a digest of 32
// bytes over the concatenated parts.
func Sum256(parts ...[]byte) (sum [32]byte) {
	if len(parts) == 1 {
		return blake2b.Sum256(parts[0])
	}
	return keyed256(nil, parts)
}

// KeyedSum256 is crypto_generichash with a key: BLAKE2b's own keyed mode with a
// digest of 32 bytes over the concatenated parts. The key has 1 to 64 bytes; a
// longer one is a mistake of the caller and panics.
func KeyedSum256(key []byte, parts ...[]byte) (sum [32]byte) {
	return keyed256(key, parts)
}

func keyed256(key []byte, parts [][]byte) (sum [32]byte) {
	h, err := blake2b.New256(key)
	if err != nil {
		panic("BUG: sodium: " + err.Error())
	}
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}

// Namespace is the key of purpose number id under a name: the hash of the
// name's hash and the number (docs/spec/secret-stream.md §2.2). It keeps
// signatures and derived keys of different uses apart.
func Namespace(name string, id byte) [32]byte {
	h := blake2b.Sum256([]byte(name))
	return blake2b.Sum256(append(h[:], id))
}

// DiscoveryKey is the name under which holders of a public key find each other
// without revealing it: the hash of "hypercore" keyed with the public key.
func DiscoveryKey(publicKey *[32]byte) [32]byte {
	return KeyedSum256(publicKey[:], []byte("hypercore"))
}

// SecretboxOverhead is how much longer a sealed box is than its content.
const SecretboxOverhead = secretbox.Overhead

// SealSecretbox appends the content to dst, encrypted and authenticated with
// XSalsa20-Poly1305 (crypto_secretbox_easy). A nonce must not be used twice
// with one key.
func SealSecretbox(dst, content []byte, nonce *[24]byte, key *[32]byte) []byte {
	return secretbox.Seal(dst, content, nonce, key)
}

// OpenSecretbox appends the content of a sealed box to dst. It returns false,
// and nothing of the content, when the box is not authentic.
func OpenSecretbox(dst, box []byte, nonce *[24]byte, key *[32]byte) ([]byte, bool) {
	return secretbox.Open(dst, box, nonce, key)
}

package hyperdht

import "github.com/warren-dht/warren/noise"

// KeySize is the size of a public key, a topic and a hash, in bytes.
const KeySize = 32

// A PublicKey is the Ed25519 public key that names a peer. A value; comparable.
type PublicKey = noise.PublicKey

// A KeyPair is an Ed25519 key pair: who one is on the network. Its secret key
// proves that in handshakes and signs announcements and records.
type KeyPair = noise.KeyPair

// A StaticKey is an identity whose secret may live elsewhere, in an agent or
// in hardware: it takes part in handshakes. [KeyPair] is one.
type StaticKey = noise.StaticKey

// GenerateKeyPair makes a new random key pair.
func GenerateKeyPair() KeyPair { return noise.GenerateKeyPair() }

// KeyPairFromSeed derives the key pair that belongs to a 32-byte seed, the same
// one each time. Whoever knows the seed is the peer.
func KeyPairFromSeed(seed [KeySize]byte) KeyPair { return noise.KeyPairFromSeed(seed) }

// ErrBadKey means that a text or a byte string is not a public key.
var ErrBadKey = noise.ErrKey

// ParsePublicKey reads a public key of 64 hex digits or 52 z-base-32
// characters, with or without "pear://" in front and a path behind
// (docs/spec/hyperdht-connect.md §3.9). The error names the text and matches
// [ErrBadKey].
func ParsePublicKey(s string) (PublicKey, error) { return noise.ParsePublicKey(s) }

// A Target is the 32-byte position in the DHT under which something is found:
// the hash of a public key, a topic, or the hash of a value.
type Target = [KeySize]byte

// TargetOf is where the announcements of a public key are kept: its hash.
func TargetOf(k PublicKey) Target { return hash(k[:]) }

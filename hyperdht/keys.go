package hyperdht

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/warren-dht/warren/internal/sodium"
	"github.com/warren-dht/warren/internal/z32"
	"github.com/warren-dht/warren/noise"
)

// KeySize is the size of a public key, a topic and a hash, in bytes.
const KeySize = 32

// A PublicKey is the Ed25519 public key that names a peer. A value; comparable.
type PublicKey [KeySize]byte

// A KeyPair is an Ed25519 key pair: who one is on the network. Its secret key
// proves that in handshakes and signs announcements and records.
type KeyPair = noise.KeyPair

// GenerateKeyPair makes a new random key pair.
func GenerateKeyPair() (KeyPair, error) { return noise.GenerateKeyPair() }

// KeyPairFromSeed derives the key pair that belongs to a 32-byte seed, the same
// one each time. Whoever knows the seed is the peer.
func KeyPairFromSeed(seed [KeySize]byte) KeyPair { return noise.KeyPairFromSeed(seed) }

// String is the key as 64 hex digits.
func (k PublicKey) String() string { return hex.EncodeToString(k[:]) }

// Z32 is the key as 52 characters of z-base-32, the form that is easiest to
// read aloud and that Keet and Pear show.
func (k PublicKey) Z32() string { return z32.Encode(k[:]) }

// IsZero reports whether the key is all zero, which is nobody's.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// MarshalText makes a key appear as hex in JSON and other text.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what [ParsePublicKey] reads.
func (k *PublicKey) UnmarshalText(b []byte) error {
	p, err := ParsePublicKey(string(b))
	if err == nil {
		*k = p
	}
	return err
}

// ErrBadKey means that a text is not a public key.
var ErrBadKey = errors.New("not a public key")

// ParsePublicKey reads a public key of 64 hex digits or 52 z-base-32
// characters, with or without "pear://" in front and a path behind (spec:
// docs/spec/hyperdht-connect.md §3.9). The error matches [ErrBadKey].
func ParsePublicKey(s string) (PublicKey, error) {
	text, isLink := strings.CutPrefix(s, "pear://")
	if isLink {
		text, _, _ = strings.Cut(text, "/")
	}
	var b []byte
	var err error
	switch len(text) {
	case hex.EncodedLen(KeySize):
		b, err = hex.DecodeString(text)
	case 52:
		b, err = z32.Decode(text)
	default:
		return PublicKey{}, fmt.Errorf("hyperdht: %w: %q has %d characters, want 64 hex digits or 52 of z-base-32",
			ErrBadKey, abbreviate(s), len(text))
	}
	if err != nil || len(b) != KeySize {
		return PublicKey{}, fmt.Errorf("hyperdht: %w: %q: %v", ErrBadKey, abbreviate(s), err)
	}
	return PublicKey(b), nil
}

// abbreviate cuts a text that may come from anywhere to what fits in a line.
func abbreviate(s string) string {
	if len(s) > 70 {
		return s[:64] + "..."
	}
	return s
}

// A Target is the 32-byte position in the DHT under which something is found:
// the hash of a public key, a topic, or the hash of a value.
type Target = [KeySize]byte

// TargetOf is where the announcements of a public key are kept: its hash.
func TargetOf(k PublicKey) Target { return sodium.Sum256(k[:]) }

package noise

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/warren-dht/warren/internal/z32"
)

// A PublicKey is an Ed25519 public key, the name of a peer. A value; comparable.
type PublicKey [32]byte

// String returns the key as 64 hex digits.
func (k PublicKey) String() string { return hex.EncodeToString(k[:]) }

// Z32 returns the key in z-base-32, 52 characters, the form that is easiest to
// read aloud.
func (k PublicKey) Z32() string { return z32.Encode(k[:]) }

// IsZero reports whether the key is all zero, which is nobody's.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// MarshalText writes the key as hex, in JSON too.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what [ParsePublicKey] reads.
func (k *PublicKey) UnmarshalText(b []byte) error {
	p, err := ParsePublicKey(string(b))
	if err == nil {
		*k = p
	}
	return err
}

// ErrKey means that a text is not a public key.
var ErrKey = errors.New("not a public key (want 64 hex digits or 52 characters of z-base-32)")

// ParsePublicKey reads the text forms of a key: z-base-32 or hex, bare or as
// the host of a pear: link (docs/spec/secret-stream.md §2.3). It does not
// check that the key is a point of the curve; using it will. The error names
// the text and matches [ErrKey].
func ParsePublicKey(s string) (k PublicKey, err error) {
	text, isLink := strings.CutPrefix(s, "pear://")
	if isLink {
		text, _, _ = strings.Cut(text, "/")
	}
	var b []byte
	switch len(text) {
	case 52:
		b, err = z32.Decode(text)
	case 64:
		b, err = hex.DecodeString(text)
	default:
		err = ErrKey
	}
	if err != nil || len(b) != len(k) {
		return PublicKey{}, fmt.Errorf("%q: %w", s[:min(len(s), 80)], ErrKey)
	}
	return PublicKey(b), nil
}

// A KeyPair is an Ed25519 key pair in the layout of libsodium and crypto/ed25519.
// It is the identity of a peer and a [StaticKey]. Formatting one prints the
// public half only.
type KeyPair struct {
	Public PublicKey
	Secret [64]byte // seed ‖ public key, an ed25519.PrivateKey
}

// KeyPairFromSeed derives the key pair of a seed, RFC 8032's private key.
func KeyPairFromSeed(seed [32]byte) KeyPair {
	secret := ed25519.NewKeyFromSeed(seed[:])
	return KeyPair{Public: PublicKey(secret[32:]), Secret: [64]byte(secret)}
}

// GenerateKeyPair draws a key pair at random.
func GenerateKeyPair() KeyPair {
	var seed [32]byte
	rand.Read(seed[:]) // never fails
	return KeyPairFromSeed(seed)
}

// PublicKey returns the public half.
func (k KeyPair) PublicKey() PublicKey { return k.Public }

// DH returns the secret that is shared with the holder of remote. It fails when
// remote is not a valid point; see package comment.
func (k KeyPair) DH(remote PublicKey) (shared [32]byte, err error) {
	p, err := parsePoint(remote)
	if err != nil {
		return shared, err
	}
	return dh(k, &p)
}

// Sign signs a message with the key, RFC 8032.
func (k KeyPair) Sign(message []byte) [64]byte {
	return [64]byte(ed25519.Sign(k.Secret[:], message))
}

func (k KeyPair) String() string   { return "noise.KeyPair(" + k.Public.String() + ")" }
func (k KeyPair) GoString() string { return k.String() }

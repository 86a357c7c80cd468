package mainline

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha1"
	"errors"
	"fmt"

	"github.com/warren-dht/warren/bencode"
)

// The limits of BEP 44.
const (
	// MaxValue is the length of a bencoded value at most.
	MaxValue = 1000
	// MaxSalt is the length of a salt at most.
	MaxSalt = 64
)

// A Hash is the function that makes targets: SHA-1, or one of a private
// network. It returns 20 or 32 bytes, always as many, and must be safe for
// concurrent use.
type Hash func([]byte) []byte

// A Verify function checks a signature: Ed25519, or one of a private network.
// It must be safe for concurrent use.
type Verify func(signature, message, publicKey []byte) bool

func hashSHA1(b []byte) []byte { s := sha1.Sum(b); return s[:] }

func verifyEd25519(signature, message, publicKey []byte) bool {
	return len(publicKey) == ed25519.PublicKeySize && ed25519.Verify(publicKey, message, signature)
}

// An Item is a value in the DHT (BEP 44): immutable if it has no key, else
// mutable by the key's owner. Value is bencoded and is kept, hashed, signed and
// sent exactly as it stands.
type Item struct {
	Value     bencode.Raw
	Key       []byte // 32 bytes; nil makes it immutable
	Signature []byte // 64 bytes, over salt, seq and value
	Salt      []byte // at most 64 bytes; empty is absent
	Seq       int64  // not negative; the higher one replaces the lower
}

// Mutable reports whether the item has a key.
func (i *Item) Mutable() bool { return i.Key != nil }

// Bytes is the content of a value that is a byte string.
func (i *Item) Bytes() (content []byte, ok bool) {
	r := bencode.NewReader(i.Value)
	return r.Bytes()
}

// StringValue bencodes a byte string, for Item.Value.
func StringValue[S ~string | ~[]byte](s S) bencode.Raw { return bencode.AppendString(nil, s) }

// ImmutableTarget is where an immutable value is stored: the SHA-1 of its
// bencoded form.
func ImmutableTarget(value bencode.Raw) ID { return FromHash(sha1.Sum(value)) }

// MutableTarget is where a mutable item is stored: the SHA-1 of public key and
// salt.
func MutableTarget(publicKey, salt []byte) ID {
	return FromHash(sha1.Sum(append(bytes.Clone(publicKey), salt...)))
}

// appendSigned appends what a signature is made over:
//
//	4:salt <len>:<salt>  3:seq i<seq>e  1:v <value>
//
// without the first two if the salt is empty (BEP 44).
func appendSigned(b, salt []byte, seq int64, value []byte) []byte {
	if len(salt) > 0 {
		b = append(b, "4:salt"...)
		b = bencode.AppendString(b, salt)
	}
	b = append(b, "3:seq"...)
	b = bencode.AppendInt(b, seq)
	b = append(b, "1:v"...)
	return append(b, value...)
}

// SignedMessage is what the signature of a mutable item covers.
func SignedMessage(salt []byte, seq int64, value bencode.Raw) []byte {
	return appendSigned(nil, salt, seq, value)
}

// Sign makes a mutable item.
func Sign(key ed25519.PrivateKey, salt []byte, seq int64, value bencode.Raw) Item {
	i, _ := SignWith(func(message []byte) ([]byte, error) { return ed25519.Sign(key, message), nil },
		key.Public().(ed25519.PublicKey), salt, seq, value)
	return i
}

// SignWith makes a mutable item with a signature from elsewhere, such as an
// agent that holds the key. The error is that of sign.
func SignWith(sign func(message []byte) (signature []byte, err error), publicKey, salt []byte, seq int64, value bencode.Raw) (Item, error) {
	signature, err := sign(appendSigned(nil, salt, seq, value))
	if err != nil {
		return Item{}, err
	}
	return Item{Value: value, Key: bytes.Clone(publicKey), Signature: signature, Salt: bytes.Clone(salt), Seq: seq}, nil
}

// target is where the item belongs under a hash.
func (i *Item) target(hash Hash) key {
	if i.Mutable() {
		return toKey(hash(append(bytes.Clone(i.Key), i.Salt...)))
	}
	return toKey(hash(i.Value))
}

// check reports what is wrong with an item that is about to be put.
func (i *Item) check() error {
	switch err := bencode.Check(i.Value); {
	case err != nil:
		return fmt.Errorf("mainline: value: %w", err)
	case len(i.Value) > MaxValue:
		return fmt.Errorf("mainline: the value takes %d bytes, at most %d are allowed", len(i.Value), MaxValue)
	case !i.Mutable() && (i.Signature != nil || len(i.Salt) > 0 || i.Seq != 0):
		return errors.New("mainline: signature, salt and seq are for items with a key")
	case !i.Mutable():
		return nil
	case len(i.Key) != ed25519.PublicKeySize:
		return fmt.Errorf("mainline: the public key has %d bytes, not %d", len(i.Key), ed25519.PublicKeySize)
	case len(i.Signature) != ed25519.SignatureSize:
		return fmt.Errorf("mainline: the signature has %d bytes, not %d", len(i.Signature), ed25519.SignatureSize)
	case len(i.Salt) > MaxSalt:
		return fmt.Errorf("mainline: the salt has %d bytes, at most %d are allowed", len(i.Salt), MaxSalt)
	case i.Seq < 0:
		return errors.New("mainline: seq is negative")
	}
	return nil
}

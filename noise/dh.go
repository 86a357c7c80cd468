package noise

import (
	"crypto/sha512"
	"errors"

	"filippo.io/edwards25519"
)

// A StaticKey is the identity of one side. [KeyPair] is one; another kind can
// keep its secret elsewhere. It must be safe for concurrent use if handshakes
// share it.
type StaticKey interface {
	PublicKey() PublicKey
	// DH multiplies the point remote by the secret scalar and returns the
	// encoded product (docs/spec/secret-stream.md §3). The handshake has
	// checked before that remote is a point of prime order.
	DH(remote PublicKey) (shared [32]byte, err error)
}

// A ScalarKey is an identity whose secret is a scalar instead of a seed, the
// reference's key pair with a scalar: a derived key, for instance. The top bit
// of the scalar is ignored; otherwise it is taken as it is, without clamping.
type ScalarKey struct {
	Public PublicKey
	Scalar [32]byte // little-endian
}

// PublicKey returns the public half.
func (k ScalarKey) PublicKey() PublicKey { return k.Public }

// DH returns the secret that is shared with the holder of remote.
func (k ScalarKey) DH(remote PublicKey) (shared [32]byte, err error) {
	p, err := parsePoint(remote)
	if err != nil {
		return shared, err
	}
	return dh(k, &p)
}

func (k ScalarKey) String() string   { return "noise.ScalarKey(" + k.Public.String() + ")" }
func (k ScalarKey) GoString() string { return k.String() }

// Errors of Diffie-Hellman.
var (
	ErrInvalidKey = errors.New("noise: public key is not a point of prime order")
	errZeroScalar = errors.New("noise: secret scalar is zero")
)

// A point is a remote public key that was found valid, ready to be multiplied:
// each of the two remote keys of a handshake is used twice.
type point struct {
	key PublicKey
	p   edwards25519.Point
}

// parsePoint accepts the keys that libsodium's
// crypto_scalarmult_ed25519_noclamp accepts: canonical encodings of points of
// prime order (docs/spec/secret-stream.md §3, rules a to d). The key is public,
// so the time this takes may depend on it.
func parsePoint(key PublicKey) (point, error) {
	p := point{key: key}
	if !canonical(&key) {
		return point{}, ErrInvalidKey
	}
	if _, err := p.p.SetBytes(key[:]); err != nil {
		return point{}, ErrInvalidKey
	}
	if !inSubgroup(&key) {
		return point{}, ErrInvalidKey
	}
	return p, nil
}

// canonical says whether the y coordinate is below 2^255-19. The one other
// non-canonical form, a zero x with the sign bit set, belongs to points of
// small order.
func canonical(key *PublicKey) bool {
	if key[0] < 0xed || key[31]&0x7f != 0x7f {
		return true
	}
	for _, b := range key[1:31] {
		if b != 0xff {
			return true
		}
	}
	return false
}

// dh computes the shared secret of a local key and a checked remote one.
func dh(local StaticKey, remote *point) (shared [32]byte, err error) {
	scalar := edwards25519.NewScalar()
	switch k := local.(type) {
	case KeyPair:
		h := sha512.Sum512(k.Secret[:32])
		// libsodium does not reduce the clamped scalar modulo L; on a point
		// of order L the product is the same.
		_, err = scalar.SetBytesWithClamping(h[:32])
	case ScalarKey:
		var wide [64]byte
		copy(wide[:], k.Scalar[:])
		wide[31] &= 0x7f
		_, err = scalar.SetUniformBytes(wide[:])
	default:
		return local.DH(remote.key)
	}
	if err != nil {
		panic("BUG: noise: " + err.Error())
	}
	var product edwards25519.Point
	product.ScalarMult(scalar, &remote.p)
	if product.Equal(edwards25519.NewIdentityPoint()) == 1 {
		return shared, errZeroScalar
	}
	copy(shared[:], product.Bytes())
	return shared, nil
}

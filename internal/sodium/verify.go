package sodium

import (
	"crypto/sha512"

	"filippo.io/edwards25519"
)

// VerifyDetached is crypto_sign_verify_detached: it reports whether sig = R | s
// is the Ed25519 signature of a message by a key A. It accepts what libsodium
// accepts: A and R are usable points (see [UsablePoint]), s is below L, the
// order of the base point B, and with h = SHA-512(R | A | message) mod L
//
//	sB - hA - R = 0
//
// exactly, not only up to a factor of 8. (So does crypto/ed25519, but it takes
// points of small order, and keys that are not canonical.)
//
// The sum is not computed as it stands but multiplied by a number d for which
// d and n = hd are half as long as h, so that half the doublings do (Antipa et
// al., Accelerated Verification of ECDSA Signatures, SAC 2005):
//
//	(ds)B - nA - dR = 0
//
// That is the same question, also for points outside of the subgroup that B
// generates: the group has order 8L, n = hd holds modulo 8L, and d is odd and
// less than L, so that only 0 becomes 0 when multiplied by it.
//
// Nothing here is secret: the time it takes depends on all of it.
func VerifyDetached(key *[32]byte, message []byte, sig *[64]byte) bool {
	first := (*[32]byte)(sig[:])
	if !UsablePoint(key) || !UsablePoint(first) {
		return false
	}
	s, err := new(edwards25519.Scalar).SetCanonicalBytes(sig[32:])
	if err != nil {
		return false
	}
	var a, r edwards25519.Point
	if _, err := a.SetBytes(key[:]); err != nil {
		return false
	}
	if _, err := r.SetBytes(first[:]); err != nil {
		return false
	}
	var room [32 + 32 + 64]byte
	digest := sha512.Sum512(append(append(append(room[:0], first[:]...), key[:]...), message...))
	h := uniform(&digest)
	n, d := halfSize((*[32]byte)(h.Bytes()))

	size := d.magnitude()
	wide := size.bytes()
	ds := uniform(&wide)
	ds.Multiply(ds, s)
	if d.negative() {
		ds.Negate(ds)
	}
	b := limbsOf((*[32]byte)(ds.Bytes()))
	base := baseTables()
	var sum multiSum
	sum.top = -1
	sum.add(0, limbs{b[0], b[1]}, baseWidth, false)
	sum.add(1, limbs{b[2], b[3]}, baseWidth, false)
	sum.add(2, n.magnitude(), pointWidth, !n.negative())
	sum.add(3, size, pointWidth, !d.negative())
	return sum.isZero(base, newTable(&a), newTable(&r))
}

// uniform is a number of 512 bits modulo L.
func uniform(b *[64]byte) *edwards25519.Scalar {
	s, err := new(edwards25519.Scalar).SetUniformBytes(b[:])
	if err != nil {
		panic("BUG: sodium: " + err.Error())
	}
	return s
}

// UsablePoint reports whether b is the canonical encoding of a point that is not
// of small order, if it is that of a point at all, which is not checked.
func UsablePoint(b *[32]byte) bool { return canonical(b) && !smallOrder(b) }

// canonical reports whether the y coordinate is below p = 2^255 - 19. (The
// other way not to be canonical, x = 0 with its sign bit set, has small order.)
func canonical(p *[32]byte) bool {
	if p[0] < 0xed || p[31]|0x80 != 0xff {
		return true
	}
	for _, b := range p[1:31] {
		if b != 0xff {
			return true
		}
	}
	return false
}

// smallOrder reports whether an encoded point is one of the eight whose order
// divides 8, in any encoding of it.
func smallOrder(p *[32]byte) bool {
	switch y := *p; y[31] & 0x7f {
	case 0x00, 0x05, 0x7a, 0x7f: // the last bytes of the list below
		y[31] &= 0x7f
		for i := range smallOrderY {
			if y == smallOrderY[i] {
				return true
			}
		}
	}
	return false
}

// smallOrderY are the y coordinates of the points of small order: 0 and 1 of
// order 4 and 1, p-1 of order 2, those two of order 8, and the encodings of 0
// and 1 that are not canonical, p and p+1.
var smallOrderY = [...][32]byte{
	{},
	{1},
	{
		0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
	},
	{
		0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
		0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
	},
	{
		0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
	},
	{
		0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
	},
	{
		0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
	},
}

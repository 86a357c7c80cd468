package sodium

import (
	"encoding/binary"
	"math/bits"
)

// limbs are a number of 320 bits in two's complement, the lowest limb first.
type limbs [5]uint64

// order8 is 8L, the order of the group of points.
var order8 = limbs{0xc09318d2e7ae9f68, 0xa6f7cef517bce6b2, 0, 0x8000000000000000}

func limbsOf(b *[32]byte) (n limbs) {
	for i := range 4 {
		n[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return n
}

// bytes writes a number that is not negative.
func (n limbs) bytes() (b [64]byte) {
	for i := range n {
		binary.LittleEndian.PutUint64(b[8*i:], n[i])
	}
	return b
}

func (n *limbs) negative() bool { return int64(n[4]) < 0 }

func (n *limbs) negate() {
	carry := uint64(1)
	for i := range n {
		n[i], carry = bits.Add64(^n[i], 0, carry)
	}
}

func (n limbs) magnitude() limbs {
	if n.negative() {
		n.negate()
	}
	return n
}

// len is the length in bits of a number that is not negative.
func (n *limbs) len() int {
	for i := len(n) - 1; i >= 0; i-- {
		if n[i] != 0 {
			return 64*i + bits.Len64(n[i])
		}
	}
	return 0
}

// window is 64 bits of a number, from that one on.
func (n *limbs) window(from int) uint64 {
	i, shift := from/64, from%64
	w := n[i] >> shift
	if i+1 < len(n) {
		w |= n[i+1] << (64 - shift)
	}
	return w
}

// addProduct adds ax.
func (n *limbs) addProduct(a int64, x *limbs) {
	var high, carry uint64
	for i := range n {
		hi, lo := bits.Mul64(uint64(a), x[i])
		var c uint64
		lo, c = bits.Add64(lo, high, 0)
		high = hi + c
		n[i], carry = bits.Add64(n[i], lo, carry)
	}
	if a < 0 { // that was 2^64 + a
		var borrow uint64
		for i := 1; i < len(n); i++ {
			n[i], borrow = bits.Sub64(n[i], x[i-1], borrow)
		}
	}
}

// A fraction is a pair n, d with n = hd modulo 8L. All of them form a lattice.
type fraction struct{ n, d limbs }

// combine returns av + bw, or its opposite, so that n is not negative.
func combine(a int64, v *fraction, b int64, w *fraction) (f fraction) {
	f.n.addProduct(a, &v.n)
	f.n.addProduct(b, &w.n)
	f.d.addProduct(a, &v.d)
	f.d.addProduct(b, &w.d)
	if f.n.negative() {
		f.n.negate()
		f.d.negate()
	}
	return f
}

// maxLen is how long n and d are at most, in bits: d is less than L then.
const maxLen = 252

// halfSize returns n and an odd d with n = hd modulo 8L, each some 128 bits
// long. In theory h can be such that they are longer, up to maxLen or that of h.
//
// Euclid's algorithm, which begins with the basis (8L, 0), (h, 1) of the
// lattice of such pairs, makes n shorter and d longer with every step. It is
// stopped in the middle. The quotients are those of the leading 64 bits, as
// many as these tell, before a step is made with all bits (Lehmer). Should a
// quotient be wrong nevertheless, what comes out is still a basis of the
// lattice; and since (h, 1) is in it, one d of a basis is always odd.
func halfSize(h *[32]byte) (n, d limbs) {
	const (
		half = 128
		most = 1 << 31 // of the factors that 64 bits yield
	)
	v, w := fraction{n: order8}, fraction{n: limbsOf(h), d: limbs{1}}
	for range 32 { // it takes five
		if w.n.len() <= half {
			break
		}
		shift := v.n.len() - 64
		x, y := v.n.window(shift), w.n.window(shift)
		low := uint64(0)
		if shift < half {
			low = 1 << (half - shift)
		}
		v0, w0, v1, w1 := int64(1), int64(0), int64(0), int64(1)
		for y > low {
			q := x / y
			if q >= most {
				break
			}
			v2, w2 := v0-int64(q)*v1, w0-int64(q)*w1
			if max(v2, -v2, w2, -w2) >= most {
				break
			}
			x, y = y, x-q*y
			v0, w0, v1, w1 = v1, w1, v2, w2
		}
		if w0 == 0 {
			break // no step was made: one quotient is extremely long
		}
		v, w = combine(v0, &v, w0, &w), combine(v1, &v, w1, &w)
		if w.n.len() > v.n.len() {
			v, w = w, v
		}
	}
	if w.d[0]&1 == 0 {
		// v - kw has an odd d for any k; this k makes n and d about equally long.
		size, shift := w.d.magnitude(), max(v.n.len()-63, 0)
		k := v.n.window(shift) / (w.n.window(shift)/2 + size.window(shift)/2 + 1) / 2
		w = combine(1, &v, -int64(min(k, most)), &w)
	}
	if size := w.d.magnitude(); size.len() > maxLen || w.n.len() > maxLen {
		return limbsOf(h), limbs{1} // right for sure, if slow
	}
	return w.n, w.d
}

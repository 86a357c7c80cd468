package noise

import "filippo.io/edwards25519/field"

// inSubgroup reports whether the point of the curve with this y is in the
// subgroup of prime order and not the identity. It takes five square roots, half
// the time of multiplying by the order.
//
// The group E has order 8L and is cyclic, so the subgroup of order L is 8E: the
// points that can be halved three times. On the Montgomery form of the curve,
//
//	v² = u³ + Au² + u,  u = (1+y)/(1-y),  A² - 4 not a square,
//
// (0, 0) is the only point of order 2. By 2-descent a point (u, v) with u ≠ 0 is
// in 2E just if u and the norm of u - e are squares, where e is a root of
// u² + Au + 1 in the quadratic extension; the norm is u² + Au + 1 = v²/u, so it
// is a square just if u is.
//
// If w² = u² + Au + 1, the doubling formula u = (x²-1)² / 4(x³+Ax²+x) for half a
// point's coordinate x comes down to
//
//	x + 1/x = 2(u ± w),  hence  x = (u ± w) + sqrt((u ± w)² - 1).
//
// Of the two radicands, whose product is u²(A²-4), exactly one is a square. The
// two halves, with x and 1/x, differ by (0, 0), which is itself in 4E: whether
// they can be halved again does not depend on the choice.
//
// All of this is computed for u = N/D without dividing.
func inSubgroup(key *PublicKey) bool {
	y, err := new(field.Element).SetBytes(key[:]) // ignores the sign
	if err != nil {
		panic("BUG: noise: " + err.Error())
	}
	one := new(field.Element).One()
	n := new(field.Element).Add(one, y)
	d := new(field.Element).Subtract(one, y)
	if isZero(n) || isZero(d) {
		return false // of order 2, and the identity
	}
	for range 2 {
		if !halve(n, d) {
			return false
		}
	}
	_, square := new(field.Element).SqrtRatio(n, d)
	return square == 1
}

// halve replaces the coordinate n/d of a point, which is neither of order 2 nor
// the identity, by that of half the point. It returns false if there is none.
func halve(n, d *field.Element) bool {
	var w, s, r, t field.Element
	// w² = n² + Adn + d²
	w.Multiply(&montgomeryA, d)
	w.Add(&w, n)
	w.Multiply(&w, n)
	w.Add(&w, t.Square(d))
	if _, square := w.SqrtRatio(&w, s.One()); square == 0 {
		return false
	}
	// The radicand for n + w, and from the root of its inverse (or of its
	// inverse times i, see SqrtRatio) that root which exists.
	s.Add(n, &w)
	s.Square(&s)
	s.Subtract(&s, &t)
	if _, square := r.SqrtRatio(new(field.Element).One(), &s); square == 1 {
		t.Multiply(&s, &r)
		n.Add(n, &w)
	} else {
		t.Multiply(n, d)
		t.Multiply(&t, &r)
		t.Multiply(&t, &otherRoot)
		n.Subtract(n, &w)
	}
	n.Add(n, &t)
	return true
}

func isZero(e *field.Element) bool { return e.Equal(new(field.Element)) == 1 }

var (
	montgomeryA = fieldElement(486662)
	// otherRoot is the root of (A²-4)/i, where i is the root of -1 in
	// SqrtRatio's answers for what is not a square.
	otherRoot = func() (c field.Element) {
		two := fieldElement(2) // is not a square
		var i, one field.Element
		one.One()
		i.SqrtRatio(&two, &one)
		i.Square(&i)
		i.Multiply(&i, new(field.Element).Invert(&two))
		a4 := fieldElement(486662*486662 - 4)
		if _, square := c.SqrtRatio(&a4, &i); square == 0 {
			panic("BUG: noise: no root")
		}
		return c
	}()
)

// fieldElement makes a small number an element of the field.
func fieldElement(v uint64) (e field.Element) {
	var b [32]byte
	for i := range 8 {
		b[i] = byte(v >> (8 * i))
	}
	if _, err := e.SetBytes(b[:]); err != nil {
		panic("BUG: noise: " + err.Error())
	}
	return e
}

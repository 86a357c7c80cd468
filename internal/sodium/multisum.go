package sodium

import (
	"sync"

	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
)

// The sums and differences below are those of crypto/ed25519's own arithmetic,
// "Twisted Edwards Curves Revisited" (Hisil et al., 2008): extended
// coordinates X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z.

// The widths of the digits, in bits. A table holds a point times 1, 3, 5, ...
const (
	pointWidth = 5
	baseWidth  = 8
)

// A cached is a point as an addend.
type cached struct{ yPlusX, yMinusX, z2, t2d field.Element }

type (
	pointTable [1 << (pointWidth - 2)]cached
	baseTable  [1 << (baseWidth - 2)]cached
)

// A completed is the result of an addition or doubling, of which it takes
// three multiplications to go on with a doubling and four with an addition:
// x = X/Z, y = Y/T.
type completed struct{ x, y, z, t field.Element }

// An extended is a point; its t is only valid where something is added to it.
type extended struct{ x, y, z, t field.Element }

func (p *extended) set(c *completed, t bool) {
	p.x.Multiply(&c.x, &c.t)
	p.y.Multiply(&c.y, &c.z)
	p.z.Multiply(&c.z, &c.t)
	if t {
		p.t.Multiply(&c.x, &c.y)
	}
}

var d2 = func() *field.Element {
	// 2d = -2 * 121665 / 121666
	d := new(field.Element).Invert(new(field.Element).Mult32(new(field.Element).One(), 121666))
	d.Mult32(d, 2*121665)
	return d.Negate(d)
}()

func (p *extended) cached(c *cached) {
	c.yPlusX.Add(&p.y, &p.x)
	c.yMinusX.Subtract(&p.y, &p.x)
	c.z2.Add(&p.z, &p.z)
	c.t2d.Multiply(&p.t, d2)
}

func (c *completed) double(p *extended) {
	var xx, yy, zz2, sum field.Element
	xx.Square(&p.x)
	yy.Square(&p.y)
	zz2.Square(&p.z)
	zz2.Add(&zz2, &zz2)
	sum.Add(&p.x, &p.y)
	sum.Square(&sum)
	c.y.Add(&yy, &xx)
	c.z.Subtract(&yy, &xx)
	c.x.Subtract(&sum, &c.y)
	c.t.Subtract(&zz2, &c.z)
}

// add adds a point, or subtracts it. If its z is known to be 1 that saves a
// multiplication.
func (c *completed) add(p *extended, q *cached, minus, affine bool) {
	plusX, minusX := &q.yPlusX, &q.yMinusX
	if minus {
		plusX, minusX = minusX, plusX
	}
	var pp, mm, tt, zz field.Element
	pp.Add(&p.y, &p.x)
	pp.Multiply(&pp, plusX)
	mm.Subtract(&p.y, &p.x)
	mm.Multiply(&mm, minusX)
	tt.Multiply(&p.t, &q.t2d)
	if affine {
		zz.Add(&p.z, &p.z)
	} else {
		zz.Multiply(&p.z, &q.z2)
	}
	c.x.Subtract(&pp, &mm)
	c.y.Add(&pp, &mm)
	if minus {
		c.z.Subtract(&zz, &tt)
		c.t.Add(&zz, &tt)
	} else {
		c.z.Add(&zz, &tt)
		c.t.Subtract(&zz, &tt)
	}
}

func extendedOf(p *edwards25519.Point) (e extended) {
	x, y, z, t := p.ExtendedCoordinates()
	return extended{*x, *y, *z, *t}
}

// fill makes a table of a point.
func fill(table []cached, p *edwards25519.Point) {
	q := extendedOf(p)
	q.cached(&table[0])
	var c completed
	c.double(&q)
	var twice extended
	twice.set(&c, true)
	for i := 1; i < len(table); i++ {
		c.add(&twice, &table[i-1], false, i == 1)
		q.set(&c, true)
		q.cached(&table[i])
	}
}

// baseTables are tables of the base point and of 2^128 times it, made when
// first needed.
var baseTables = sync.OnceValue(func() *[2]baseTable {
	var tables [2]baseTable
	base := edwards25519.NewGeneratorPoint()
	high := edwards25519.NewGeneratorPoint()
	for range 128 {
		high.Double(high)
	}
	for i, p := range []*edwards25519.Point{base, high} {
		var affine edwards25519.Point
		affine.SetBytes(p.Bytes())
		fill(tables[i][:], &affine)
		for j := range tables[i] {
			tables[i][j].normalize()
		}
	}
	return &tables
})

// normalize makes z 1.
func (c *cached) normalize() {
	var half field.Element
	half.Invert(&c.z2)
	half.Add(&half, &half)
	c.yPlusX.Multiply(&c.yPlusX, &half)
	c.yMinusX.Multiply(&c.yMinusX, &half)
	c.t2d.Multiply(&c.t2d, &half)
	c.z2.Multiply(&c.z2, &half)
}

func newTable(p *edwards25519.Point) *pointTable {
	var t pointTable
	fill(t[:], p)
	return &t
}

// A multiSum is a sum of four points, each times a number.
type multiSum struct {
	digits [4][256]int8 // of the numbers, signed, odd or 0
	top    int          // the highest place that is not 0
}

// add sets a number, which is not negative and below 2^255, to be subtracted
// if minus is set.
func (s *multiSum) add(i int, n limbs, width int, minus bool) {
	// The non-adjacent form: of width digits in a row at most one is not 0.
	carry := uint64(0)
	for at := 0; at < 256; {
		w := n.window(at)&(1<<width-1) + carry
		if w&1 == 0 {
			at++
			continue
		}
		carry = w >> (width - 1)
		digit := int8(int64(w) - int64(carry<<width))
		if minus {
			digit = -digit
		}
		s.digits[i][at] = digit
		s.top = max(s.top, at)
		at += width
	}
}

// isZero computes the sum.
func (s *multiSum) isZero(base *[2]baseTable, a, r *pointTable) bool {
	tables := [4][]cached{base[0][:], base[1][:], a[:], r[:]}
	var p extended
	p.y.One()
	p.z.One()
	var c completed
	for i := s.top; i >= 0; i-- {
		c.double(&p)
		for j := range s.digits {
			digit := int(s.digits[j][i])
			if digit == 0 {
				continue
			}
			p.set(&c, true)
			c.add(&p, &tables[j][max(digit, -digit)/2], digit < 0, j < 2)
		}
		p.set(&c, false)
	}
	return p.x.Equal(new(field.Element)) == 1 && p.y.Equal(&p.z) == 1
}

// Package seq has the arithmetic that transport protocols share: 32-bit serial
// numbers (RFC 1982), sets of ranges of them, and windowed minimum and maximum
// filters. Everything here is a value without lock, clock or goroutine.
//
// Serial numbers wrap, so comparisons are right only between numbers that are
// less than 2^31 apart.
package seq

// A Number is a serial number modulo 2^32.
type Number uint32

// Less reports whether a comes before b.
func (a Number) Less(b Number) bool { return int32(a-b) < 0 }

// LessEq reports whether a comes before b or is b.
func (a Number) LessEq(b Number) bool { return int32(a-b) <= 0 }

// Sub returns how far a lies behind b: a − b, negative if a comes before b.
func (a Number) Sub(b Number) int { return int(int32(a - b)) }

// Max returns the later of a and b.
func Max(a, b Number) Number {
	if a.Less(b) {
		return b
	}
	return a
}

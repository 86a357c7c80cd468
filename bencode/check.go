package bencode

import "bytes"

// Check reports whether b is exactly one value in canonical form: nothing
// follows it, all keys rise strictly, all integers fit 64 bits. It returns one
// of the package's errors if not.
func Check(b []byte) error { return check(b, 0) }

// check is Check for a value that lies in depth lists and dictionaries.
func check(b []byte, depth int) error {
	r := Reader{b: b, depth: depth}
	r.check()
	if r.err == nil && r.pos != len(b) {
		return ErrTrailing
	}
	return r.err
}

// check takes a canonical value of any kind.
func (r *Reader) check() {
	switch r.Kind() {
	case Int:
		if _, ok := r.integer(); !ok && r.err == nil {
			r.err = ErrRange
		}
	case List:
		if r.enter('l') {
			for r.More() {
				r.check()
			}
		}
	case Dict:
		if r.enter('d') {
			var last []byte
			for first := true; r.More(); first = false {
				key := r.Key()
				if r.err == nil && !first && bytes.Compare(last, key) >= 0 {
					r.err = ErrKeyOrder
				}
				last = key
				r.check()
			}
		}
	default:
		r.Skip()
	}
}

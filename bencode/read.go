package bencode

import "math"

// Kind is the type of a value, told by its first byte.
type Kind uint8

// The four kinds, and what is none of them.
const (
	Invalid Kind = iota
	Int
	String
	List
	Dict
)

func (k Kind) String() string {
	return [...]string{"invalid", "integer", "byte string", "list", "dictionary"}[k]
}

// kindOf tells the kind of a value by its first byte.
func kindOf(c byte) Kind {
	switch {
	case '0' <= c && c <= '9':
		return String
	case c == 'i':
		return Int
	case c == 'l':
		return List
	case c == 'd':
		return Dict
	}
	return Invalid
}

// A Reader walks over one bencoded value. Each call of Int, Bytes, List, Dict,
// Raw or Skip takes exactly one value; More tells whether the list or
// dictionary that was entered last has another element, and leaves it when it
// has not:
//
//	r := bencode.NewReader(b)
//	if r.Dict() {
//		for r.More() {
//			switch string(r.Key()) {
//			case "t":
//				t, ok = r.Bytes()
//			default:
//				r.Skip()
//			}
//		}
//	}
//	if r.Err() != nil { ... }
//
// After malformed input every call returns a zero result and Err tells why; a
// value of another kind than asked for is no such error: it is skipped. What a
// Reader returns is borrowed from its input. It is a value with one owner and
// never allocates.
type Reader struct {
	b     []byte
	pos   int
	depth int
	err   error
}

// NewReader returns a Reader at the first byte of b.
func NewReader(b []byte) Reader { return Reader{b: b} }

// Err is the first error met, or nil.
func (r *Reader) Err() error { return r.err }

// Offset is how many bytes have been read.
func (r *Reader) Offset() int { return r.pos }

// Rest is what follows the values that have been read.
func (r *Reader) Rest() []byte { return r.b[r.pos:] }

// Kind is the kind of the next value; Invalid at the end of a list, a
// dictionary or the input.
func (r *Reader) Kind() Kind {
	if r.err != nil || r.pos >= len(r.b) {
		return Invalid
	}
	return kindOf(r.b[r.pos])
}

// Int takes an integer. ok is false if the value is of another kind or does not
// fit 64 bits.
func (r *Reader) Int() (n int64, ok bool) {
	if r.Kind() != Int {
		r.Skip()
		return 0, false
	}
	return r.integer()
}

// Bytes takes a byte string. ok is false if the value is of another kind.
func (r *Reader) Bytes() (s []byte, ok bool) {
	if r.Kind() != String {
		r.Skip()
		return nil, false
	}
	return r.str()
}

// Key takes a dictionary's key, which has to be a byte string.
func (r *Reader) Key() []byte {
	if r.err != nil {
		return nil
	}
	s, _ := r.str()
	return s
}

// List enters a list. If the value is of another kind it is skipped.
func (r *Reader) List() bool { return r.enter('l') }

// Dict enters a dictionary. If the value is of another kind it is skipped.
func (r *Reader) Dict() bool { return r.enter('d') }

func (r *Reader) enter(open byte) bool {
	if r.err != nil {
		return false
	}
	if r.pos >= len(r.b) || r.b[r.pos] != open {
		r.Skip()
		return false
	}
	if r.depth == MaxDepth {
		r.err = ErrDepth
		return false
	}
	r.depth++
	r.pos++
	return true
}

// More reports whether another element follows in the list or dictionary
// entered last, and otherwise leaves it.
func (r *Reader) More() bool {
	switch {
	case r.err != nil:
		return false
	case r.pos >= len(r.b):
		r.err = ErrTruncated
		return false
	case r.b[r.pos] == 'e' && r.depth > 0:
		r.pos++
		r.depth--
		return false
	}
	return true
}

// Raw takes a value of any kind and returns its bytes as they stand.
func (r *Reader) Raw() []byte {
	start := r.pos
	if r.Skip(); r.err != nil {
		return nil
	}
	return r.b[start:r.pos]
}

// Skip takes a value of any kind.
func (r *Reader) Skip() {
	switch {
	case r.err != nil:
	case r.pos >= len(r.b):
		r.err = ErrTruncated
	default:
		switch kindOf(r.b[r.pos]) {
		case String:
			r.str()
		case Int:
			r.integer()
		case List:
			if r.enter('l') {
				for r.More() {
					r.Skip()
				}
			}
		case Dict:
			if r.enter('d') {
				for r.More() {
					r.str()
					r.Skip()
				}
			}
		default:
			r.err = ErrSyntax
		}
	}
}

// str takes a byte string: its length in digits, a colon, the bytes.
func (r *Reader) str() ([]byte, bool) {
	if r.err != nil {
		return nil, false
	}
	n, i := 0, r.pos
	for ; i < len(r.b) && '0' <= r.b[i] && r.b[i] <= '9'; i++ {
		if n = n*10 + int(r.b[i]-'0'); n > len(r.b) {
			r.err = ErrTruncated
			return nil, false
		}
	}
	switch {
	case i == len(r.b):
		r.err = ErrTruncated
	case i == r.pos || r.b[i] != ':' || r.b[r.pos] == '0' && i > r.pos+1:
		r.err = ErrSyntax
	case n > len(r.b)-i-1:
		r.err = ErrTruncated
	default:
		s := r.b[i+1 : i+1+n : i+1+n]
		r.pos = i + 1 + n
		return s, true
	}
	return nil, false
}

// integer takes an integer; ok is false for one of more than 64 bits.
func (r *Reader) integer() (n int64, ok bool) {
	i := r.pos + 1 // behind the 'i'
	negative := i < len(r.b) && r.b[i] == '-'
	if negative {
		i++
	}
	first, limit := i, uint64(math.MaxInt64)
	if negative {
		limit++
	}
	var u uint64
	ok = true
	for ; i < len(r.b) && '0' <= r.b[i] && r.b[i] <= '9'; i++ {
		d := uint64(r.b[i] - '0')
		if u > (limit-d)/10 {
			ok = false
		}
		u = u*10 + d
	}
	switch {
	case i == len(r.b):
		r.err = ErrTruncated
	case i == first || r.b[i] != 'e':
		r.err = ErrSyntax
	case r.b[first] == '0' && (i > first+1 || negative):
		r.err = ErrSyntax
	case ok && negative:
		r.pos = i + 1
		return -int64(u), true // also right for the least of all: -2^63
	case ok:
		r.pos = i + 1
		return int64(u), true
	default:
		r.pos = i + 1
	}
	return 0, false
}

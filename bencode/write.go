package bencode

import (
	"fmt"
	"slices"
	"strconv"
)

// AppendInt appends an integer.
func AppendInt[N ~int | ~int64 | ~uint16](b []byte, n N) []byte {
	b = append(b, 'i')
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, 'e')
}

// AppendString appends a byte string.
func AppendString[S ~string | ~[]byte](b []byte, s S) []byte {
	b = strconv.AppendUint(b, uint64(len(s)), 10)
	b = append(b, ':')
	return append(b, s...)
}

// Raw is a value that is bencoded already.
type Raw []byte

// Append appends a value: an int, int64 or uint16, a string or []byte, a []any
// or a map[string]any of such values, or a Raw one, which must be canonical.
// Keys come out sorted. Any other type is an error, and so is nesting deeper
// than MaxDepth.
func Append(b []byte, v any) ([]byte, error) { return appendValue(b, v, 0) }

// appendValue appends a value that lies in depth lists and dictionaries.
func appendValue(b []byte, v any, depth int) ([]byte, error) {
	switch v := v.(type) {
	case int:
		return AppendInt(b, v), nil
	case int64:
		return AppendInt(b, v), nil
	case uint16:
		return AppendInt(b, v), nil
	case string:
		return AppendString(b, v), nil
	case []byte:
		return AppendString(b, v), nil
	case Raw:
		if err := check(v, depth); err != nil {
			return nil, err
		}
		return append(b, v...), nil
	case []any:
		if depth == MaxDepth {
			return nil, ErrDepth
		}
		b = append(b, 'l')
		for _, e := range v {
			var err error
			if b, err = appendValue(b, e, depth+1); err != nil {
				return nil, err
			}
		}
		return append(b, 'e'), nil
	case map[string]any:
		if depth == MaxDepth {
			return nil, ErrDepth
		}
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		b = append(b, 'd')
		for _, k := range keys {
			b = AppendString(b, k)
			var err error
			if b, err = appendValue(b, v[k], depth+1); err != nil {
				return nil, err
			}
		}
		return append(b, 'e'), nil
	}
	return nil, fmt.Errorf("bencode: cannot write a %T", v)
}

// Decode reads the one value that b holds, leniently, into int64, string, []any
// and map[string]any. Of a key that occurs twice the last value counts. Nothing
// may follow the value, and every integer has to fit 64 bits. It allocates, and
// is meant for tools and tests.
func Decode(b []byte) (any, error) {
	r := NewReader(b)
	v := r.decode()
	switch {
	case r.err != nil:
		return nil, r.err
	case r.pos != len(b):
		return nil, ErrTrailing
	}
	return v, nil
}

func (r *Reader) decode() any {
	switch r.Kind() {
	case Int:
		n, ok := r.Int()
		if !ok && r.err == nil {
			r.err = ErrRange
		}
		return n
	case String:
		s, _ := r.Bytes()
		return string(s)
	case List:
		l := []any{}
		if r.List() {
			for r.More() {
				l = append(l, r.decode())
			}
		}
		return l
	case Dict:
		d := map[string]any{}
		if r.Dict() {
			for r.More() {
				k := string(r.Key())
				d[k] = r.decode()
			}
		}
		return d
	}
	r.Skip()
	return nil
}

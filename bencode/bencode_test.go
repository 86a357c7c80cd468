package bencode

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warren-dht/warren/internal/vectors"
)

// recorded is the part of testdata/mainline.json that concerns bencode.
type recorded struct {
	Bencode struct {
		Encode []struct {
			Name  string
			Value json.RawMessage
			Hex   vectors.Hex
		}
		Decode []struct {
			Name      string
			Hex       vectors.Hex
			Canonical bool
		}
	}
	Bep5Examples []struct {
		Name string
		Hex  vectors.Hex
	} `json:"bep5_examples"`
}

func load(t testing.TB) (v recorded) {
	vectors.Load(t, "mainline.json", &v)
	if len(v.Bencode.Encode) == 0 || len(v.Bencode.Decode) == 0 {
		t.Fatal("no vectors")
	}
	return v
}

// value turns a vector's notation ("s:text", "x:hex", numbers) into Go values.
func value(t testing.TB, raw json.RawMessage) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	var conv func(any) any
	conv = func(v any) any {
		switch v := v.(type) {
		case json.Number:
			n, err := v.Int64()
			if err != nil {
				t.Fatal(err)
			}
			return n
		case string:
			if s, ok := strings.CutPrefix(v, "s:"); ok {
				return s
			}
			b, err := hex.DecodeString(strings.TrimPrefix(v, "x:"))
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		case []any:
			for i := range v {
				v[i] = conv(v[i])
			}
			return v
		case map[string]any:
			for k := range v {
				v[k] = conv(v[k])
			}
			return v
		}
		t.Fatalf("%T in a vector", v)
		return nil
	}
	return conv(v)
}

func TestEncodeVectors(t *testing.T) {
	for _, v := range load(t).Bencode.Encode {
		want := value(t, v.Value)
		got, err := Append(nil, want)
		if err != nil || !bytes.Equal(got, v.Hex) {
			t.Errorf("%s: Append = %q, %v; want %q", v.Name, got, err, v.Hex)
		}
		back, err := Decode(v.Hex)
		if err != nil {
			t.Errorf("%s: Decode: %v", v.Name, err)
		}
		if d := cmp.Diff(want, back); d != "" {
			t.Errorf("%s: Decode: (-want +got)\n%s", v.Name, d)
		}
	}
}

func TestDecodeVectors(t *testing.T) {
	for _, v := range load(t).Bencode.Decode {
		if err := Check(v.Hex); (err == nil) != v.Canonical {
			t.Errorf("%s: Check(%q) = %v, canonical = %v", v.Name, v.Hex, err, v.Canonical)
		}
	}
}

func TestCheckReasons(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("l", n) + strings.Repeat("e", n) }
	for _, c := range []struct {
		in   string
		want error
	}{
		{"", ErrTruncated},
		{"i1", ErrTruncated},
		{"i-", ErrTruncated},
		{"i-e", ErrSyntax},
		{"i-0e", ErrSyntax},
		{"i00e", ErrSyntax},
		{"i9223372036854775807e", nil},
		{"i-9223372036854775808e", nil},
		{"i9223372036854775808e", ErrRange},
		{"i-9223372036854775809e", ErrRange},
		{"i99999999999999999999999999999999e", ErrRange},
		{"0:", nil},
		{"00:", ErrSyntax},
		{"1", ErrTruncated},
		{"1:", ErrTruncated},
		{"99999999999999999999999999:a", ErrTruncated},
		{"18446744073709551617:a", ErrTruncated},
		{"1:ab", ErrTrailing},
		{"e", ErrSyntax},
		{"x", ErrSyntax},
		{"-1:a", ErrSyntax},
		{"d1:ai1e1:bi2ee", nil},
		{"d0:i1e1:bi2ee", nil},
		{"d1:bi1e1:ai2ee", ErrKeyOrder},
		{"d1:ai1e1:ai2ee", ErrKeyOrder},
		{"d0:i1e0:i2ee", ErrKeyOrder},
		{"ld1:bi1e1:ai2eee", ErrKeyOrder},
		{"d1:ae", ErrSyntax},
		{"di1ei1ee", ErrSyntax},
		{deep(MaxDepth), nil},
		{deep(MaxDepth + 1), ErrDepth},
		{strings.Repeat("d1:a", 20000), ErrDepth},
	} {
		if err := Check([]byte(c.in)); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("Check(%.40q) = %v, want %v", c.in, err, c.want)
		}
	}
}

func TestReaderIsLenient(t *testing.T) {
	// Unsorted and duplicate keys, an integer of 70 bits that nobody asks for,
	// and trailing bytes.
	r := NewReader([]byte("d1:bi7e1:ai1e1:xi1180591620717411303424e1:a3:twoexyz"))
	var a []byte
	var b int64
	if !r.Dict() {
		t.Fatal("no dictionary")
	}
	for r.More() {
		switch string(r.Key()) {
		case "a":
			a, _ = r.Bytes()
		case "b":
			b, _ = r.Int()
		default:
			r.Skip()
		}
	}
	if r.Err() != nil || string(a) != "two" || b != 7 || string(r.Rest()) != "xyz" {
		t.Errorf("a = %q, b = %d, rest = %q, err = %v", a, b, r.Rest(), r.Err())
	}
}

func TestReaderSkipsOtherKinds(t *testing.T) {
	r := NewReader([]byte("l1:ai2elei18446744073709551616e4:lasti5ee"))
	if r.Dict() {
		t.Error("a list was entered as a dictionary")
	}
	if r.Err() != nil || len(r.Rest()) != 0 {
		t.Errorf("skipping a list: %v, rest %q", r.Err(), r.Rest())
	}
	r = NewReader([]byte("l1:ai2elei18446744073709551616e4:lasti5ee"))
	if !r.List() {
		t.Fatal("no list")
	}
	if _, ok := r.Int(); ok {
		t.Error("a string was taken for an integer")
	}
	if _, ok := r.Bytes(); ok {
		t.Error("an integer was taken for a string")
	}
	if _, ok := r.Bytes(); ok {
		t.Error("a list was taken for a string")
	}
	if n, ok := r.Int(); ok {
		t.Errorf("2^64 fits an int64: %d", n)
	}
	if k := r.Kind(); k != String {
		t.Errorf("kind = %v", k)
	}
	if raw := r.Raw(); string(raw) != "4:last" {
		t.Errorf("raw = %q", raw)
	}
	if n, ok := r.Int(); !ok || n != 5 {
		t.Errorf("int = %d, %v", n, ok)
	}
	if r.More() || r.Err() != nil || len(r.Rest()) != 0 {
		t.Errorf("end: %v, rest %q", r.Err(), r.Rest())
	}
}

func TestReaderErrorsStick(t *testing.T) {
	r := NewReader([]byte("d1:ai0xe1:bi1ee"))
	r.Dict()
	for r.More() {
		r.Key()
		r.Int()
	}
	if !errors.Is(r.Err(), ErrSyntax) {
		t.Fatalf("err = %v", r.Err())
	}
	if r.More() || r.Dict() || r.List() || r.Key() != nil || r.Raw() != nil || r.Kind() != Invalid {
		t.Error("a Reader goes on after an error")
	}
}

func TestAppendRefuses(t *testing.T) {
	deep := any("x")
	for range MaxDepth + 1 {
		deep = []any{deep}
	}
	nested := func(v any, n int) any {
		for range n {
			v = []any{v}
		}
		return v
	}
	for _, v := range []any{
		1.5, nil, []any{struct{}{}}, map[string]any{"a": uint8(1)}, Raw("i01e"), deep,
		nested([]any{}, MaxDepth), nested(map[string]any{}, MaxDepth), nested(Raw("le"), MaxDepth), Raw("e"), []any{Raw("e")},
	} {
		if b, err := Append(nil, v); err == nil {
			t.Errorf("Append(%v) = %q", v, b)
		}
	}
	for _, v := range []any{nested([]any{}, MaxDepth-1), nested(Raw("le"), MaxDepth-1), nested("x", MaxDepth)} {
		if b, err := Append(nil, v); err != nil || Check(b) != nil {
			t.Errorf("Append(%v) = %q, %v", v, b, err)
		}
	}
	if b, err := Append(nil, []any{Raw("i1e"), uint16(2), []byte("x"), int64(math.MinInt64)}); err != nil || string(b) != "li1ei2e1:xi-9223372036854775808ee" {
		t.Errorf("Append = %q, %v", b, err)
	}
}

func TestReaderDoesNotAllocate(t *testing.T) {
	msg := []byte("d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe")
	if n := testing.AllocsPerRun(100, func() {
		r := NewReader(msg)
		r.Skip()
		if r.Err() != nil || Check(msg) != nil {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzBencode(f *testing.F) {
	v := load(f)
	for _, c := range v.Bencode.Encode {
		f.Add([]byte(c.Hex))
	}
	for _, c := range v.Bencode.Decode {
		f.Add([]byte(c.Hex))
	}
	for _, c := range v.Bep5Examples {
		f.Add([]byte(c.Hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		canonical := Check(b) == nil
		v, err := Decode(b)
		if err != nil {
			if canonical {
				t.Fatalf("%q is canonical but does not decode: %v", b, err)
			}
			return
		}
		again, err := Append(nil, v)
		if err != nil {
			t.Fatalf("%q decodes to what cannot be written: %v", b, err)
		}
		if err := Check(again); err != nil {
			t.Fatalf("Append wrote %q: %v", again, err)
		}
		if bytes.Equal(again, b) != canonical {
			t.Fatalf("Check(%q) says canonical = %v, Append writes %q", b, canonical, again)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	msg := []byte("d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe")
	b.ReportAllocs()
	for b.Loop() {
		r := NewReader(msg)
		r.Skip()
		if r.Err() != nil {
			b.Fatal(r.Err())
		}
	}
}

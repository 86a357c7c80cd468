package pb

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   string
		want [][]byte
		err  error
	}{
		{name: "empty message", want: [][]byte{nil, nil}},
		{name: "both", in: "\x0a\x01a\x12\x02bc", want: [][]byte{[]byte("a"), []byte("bc")}},
		{name: "any order", in: "\x12\x02bc\x0a\x01a", want: [][]byte{[]byte("a"), []byte("bc")}},
		{name: "present and empty", in: "\x12\x00", want: [][]byte{nil, {}}},
		{name: "the last wins", in: "\x0a\x01a\x0a\x01b", want: [][]byte{[]byte("b"), nil}},
		{name: "cut at the end", in: "\x0a\x05ab", want: [][]byte{[]byte("ab"), nil}},
		{name: "enormous length", in: "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01ab", want: [][]byte{[]byte("ab"), nil}},
		{name: "known field of type varint", in: "\x08\x02ab", want: [][]byte{[]byte("ab"), nil}},
		{name: "unknown varint", in: "\x78\x96\x01\x0a\x01a", want: [][]byte{[]byte("a"), nil}},
		{name: "unknown 64 bit", in: "\x79\x01\x02\x03\x04\x05\x06\x07\x08\x0a\x01a", want: [][]byte{[]byte("a"), nil}},
		{name: "unknown bytes", in: "\x7a\x03abc\x0a\x01a", want: [][]byte{[]byte("a"), nil}},
		{name: "unknown 32 bit", in: "\x7d\x01\x02\x03\x04\x0a\x01a", want: [][]byte{[]byte("a"), nil}},
		{name: "unknown bytes past the end", in: "\x0a\x01a\x7a\xff\x01abc", want: [][]byte{[]byte("a"), nil}},
		{name: "unknown bytes of enormous length", in: "\x0a\x01a\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", want: [][]byte{[]byte("a"), nil}},
		{name: "unknown 64 bit past the end", in: "\x0a\x01a\x79\x01", want: [][]byte{[]byte("a"), nil}},
		{name: "field number 0", in: "\x02\x01x\x0a\x01a", want: [][]byte{[]byte("a"), nil}},
		{name: "group", in: "\x7b", err: ErrWireType},
		{name: "end of group", in: "\x7c", err: ErrWireType},
		{name: "type 6", in: "\x7e", err: ErrWireType},
		{name: "type 7", in: "\x7f", err: ErrWireType},
		{name: "key cut", in: "\x8a", err: ErrVarint},
		{name: "length missing", in: "\x0a", err: ErrVarint},
		{name: "length cut", in: "\x0a\x80", err: ErrVarint},
		{name: "unknown varint cut", in: "\x78\x80", err: ErrVarint},
		{name: "key of 70 bits", in: "\x8a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\x00", err: ErrVarint},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make([][]byte, 2)
			got[0] = []byte("left from before")
			err := Parse([]byte(tt.in), got)
			if !errors.Is(err, tt.err) {
				t.Fatalf("Parse: %v, want %v", err, tt.err)
			}
			if err == nil && !cmp.Equal(got, tt.want) {
				t.Errorf("Parse: %s", cmp.Diff(tt.want, got))
			}
		})
	}
}

func TestAppend(t *testing.T) {
	big := bytes.Repeat([]byte("v"), 300)
	got := Append([]byte("x"), []byte("a"), nil, []byte{}, big)
	want := append([]byte("x\x0a\x01a\x1a\x00\x22\xac\x02"), big...)
	if !bytes.Equal(got, want) {
		t.Errorf("Append = %x, want %x", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("\x0a\x01a\x12\x02bc"))
	f.Add([]byte("\x78\x96\x01\x7a\x03abc\x7d1234\x7912345678\x1a\x00"))
	f.Add([]byte("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fields := make([][]byte, 7)
		if Parse(b, fields) != nil {
			return
		}
		again := make([][]byte, 7)
		out := Append(nil, fields...)
		if err := Parse(out, again); err != nil {
			t.Fatalf("Parse of what Append wrote: %v", err)
		}
		if !cmp.Equal(fields, again) {
			t.Fatalf("changed on the way: %s", cmp.Diff(fields, again))
		}
		if len(out) > len(b)+2*len(fields) {
			t.Fatalf("%d bytes became %d", len(b), len(out))
		}
	})
}

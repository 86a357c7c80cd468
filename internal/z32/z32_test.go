package z32

import (
	"bytes"
	"testing"

	"github.com/warren-dht/warren/internal/vectors"
)

func TestVectors(t *testing.T) {
	var v struct {
		KeyPairs []struct {
			PublicKey vectors.Hex `json:"public_key"`
			Z32       string
		} `json:"key_pairs"`
		IDs struct {
			Examples []struct {
				Bytes vectors.Hex
				Z32   string
			} `json:"z32_examples"`
			Trailing struct {
				Canonical, Accepted string
				Out                 vectors.Hex
			} `json:"trailing_bits_ignored"`
		} `json:"id_encoding"`
	}
	vectors.Load(t, "noise.json", &v)
	check := func(b []byte, s string) {
		t.Helper()
		if got := Encode(b); got != s {
			t.Errorf("Encode(%x) = %s, want %s", b, got, s)
		}
		if got, err := Decode(s); err != nil || !bytes.Equal(got, b) {
			t.Errorf("Decode(%s) = %x, %v, want %x", s, got, err, b)
		}
	}
	if len(v.KeyPairs) == 0 || len(v.IDs.Examples) == 0 {
		t.Fatal("vectors are missing")
	}
	for _, k := range v.KeyPairs {
		check(k.PublicKey, k.Z32)
	}
	for _, e := range v.IDs.Examples {
		check(e.Bytes, e.Z32)
	}
	check(v.IDs.Trailing.Out, v.IDs.Trailing.Canonical)
	if got, err := Decode(v.IDs.Trailing.Accepted); err != nil || !bytes.Equal(got, v.IDs.Trailing.Out) {
		t.Errorf("Decode with bits to spare = %x, %v", got, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, s := range []string{
		"y", "yyy", "yyyyyy", // 5, 15 and 30 bits: more characters than their bytes need
		"yy\n", "y\ry", "YY", "yl", "yv", "y0", "y2", "yy=", "yy======", "y y", "yy\x00", "ýy",
	} {
		if b, err := Decode(s); err == nil {
			t.Errorf("Decode(%q) = %x", s, b)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("yqooxx9u3aemh8mo5wcqq16yufu6jitouq1o4za751dger1igghy")
	f.Add("yqooxx9u3aemh8mo5wcqq16yufu6jitouq1o4za751dger1igghx")
	f.Add("yy\n")
	f.Fuzz(func(t *testing.T, s string) {
		b, err := Decode(s)
		if err != nil {
			return
		}
		c := Encode(b)
		// All but the last character is determined by the bytes.
		if len(c) != len(s) || len(s) > 0 && c[:len(c)-1] != s[:len(s)-1] {
			t.Fatalf("%q decodes to %x, which is %q", s, b, c)
		}
	})
}

package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestEscape(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, text, json string }{
		{"", "", ""},
		{"plain text, 100%\n\ttwo lines", "plain text, 100%\n\ttwo lines", "plain text, 100%\n\ttwo lines"},
		{"Grüße, здравствуйте, שלום, 你好 👩‍👩‍👧", "Grüße, здравствуйте, שלום, 你好 👩‍👩‍👧", "Grüße, здравствуйте, שלום, 你好 👩‍👩‍👧"},
		{"a replaced one: \ufffd", "a replaced one: \ufffd", "a replaced one: \ufffd"},
		{"\x1b]0;title\x07\x1b[31mred", `\x1b]0;title\x07\x1b[31mred`, `\u001b]0;title\u0007\u001b[31mred`},
		{"over\rwritten\b\x00", `over\x0dwritten\x08\x00`, `over\u000dwritten\u0008\u0000`},
		{"\x7f", `\x7f`, `\u007f`},
		{"\u009b31m\u0085\u0080\u009f", `\x9b31m\x85\x80\x9f`, `\u009b31m\u0085\u0080\u009f`},
		{"\x9b31m\xff", `\x9b31m\xff`, `\ufffd31m\ufffd`},      // one byte each: C1 of an 8-bit terminal
		{"cut \xe4\xbd", `cut \xe4\xbd`, `cut \ufffd\ufffd`},   // a character that does not end
		{"\xed\xa0\x80", `\xed\xa0\x80`, `\ufffd\ufffd\ufffd`}, // a surrogate
		{"\u202egpj.exe\u202c", `\u202egpj.exe\u202c`, `\u202egpj.exe\u202c`},
		{"\u202a\u202b\u202d\u2066\u2067\u2068\u2069", `\u202a\u202b\u202d\u2066\u2067\u2068\u2069`, `\u202a\u202b\u202d\u2066\u2067\u2068\u2069`},
		{"kept \u200d\u2028\u202f\u206a", "kept \u200d\u2028\u202f\u206a", "kept \u200d\u2028\u202f\u206a"},
	} {
		if got := escape(tt.in, false); got != tt.text {
			t.Errorf("escape(%q) = %q, want %q", tt.in, got, tt.text)
		}
		if got := escape(tt.in, true); got != tt.json {
			t.Errorf("in JSON escape(%q) = %q, want %q", tt.in, got, tt.json)
		}
	}
	for r := rune(0); r < 0xa0; r++ { // all of C0, DEL and C1
		got := escape(string(r), false)
		if control := r < ' ' || r >= 0x7f; control && r != '\n' && r != '\t' {
			if !strings.HasPrefix(got, `\x`) {
				t.Errorf("%U stays %q", r, got)
			}
		} else if got != string(r) {
			t.Errorf("%U becomes %q", r, got)
		}
	}
}

// A line of JSON means the same with and without the escapes.
func TestEscapedJSON(t *testing.T) {
	t.Parallel()
	all := ""
	for r := rune(0); r < 0x2100; r++ {
		all += string(r)
	}
	line := jsonLine(all)
	escaped := escape(line, true)
	if strings.ContainsFunc(escaped, isControl) || escaped == line {
		t.Errorf("unsafe: %q", escaped)
	}
	var got string
	if err := json.Unmarshal([]byte(escaped), &got); err != nil || got != all {
		t.Errorf("%v: read %d bytes of %d", err, len(got), len(all))
	}
}

package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// escape makes a text safe to show on a terminal, whatever its author wanted the
// terminal to do. Control characters (C0 and C1, DEL), characters that change the
// direction of the text around them, and bytes that are not UTF-8 become visible:
// ESC as \x1b, U+202E as \u202e. Newlines, tabs and all other text stay. In a line
// of JSON every escape has the form \u001b, so that the line keeps its meaning.
func escape(s string, isJSON bool) string {
	if !strings.ContainsFunc(s, isControl) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case !isControl(r) || r == utf8.RuneError && size > 1:
			b.WriteString(s[i : i+size])
		case r == utf8.RuneError && isJSON:
			b.WriteString(`\ufffd`)
		case r == utf8.RuneError:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r > 0xff || isJSON:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\x%02x`, r)
		}
		i += size
	}
	return b.String()
}

// isControl reports whether a terminal might obey a character instead of showing it.
// utf8.RuneError stands for a byte that is not UTF-8: an 8-bit terminal takes some
// of them for C1 controls.
func isControl(r rune) bool {
	switch {
	case r == '\n', r == '\t':
		return false
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069: // overrides and isolates of direction
		return true
	}
	return unicode.IsControl(r) || r == utf8.RuneError
}

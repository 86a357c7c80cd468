// Package z32 is z-base-32, the text form of public keys: five bits a
// character, most significant first, lower case, no padding. 32 bytes are 52
// characters.
//
// Left out: encodings of bit strings that are not whole bytes.
package z32

import (
	"encoding/base32"
	"errors"
	"strings"
)

// Alphabet lists the characters for 0 to 31 (docs/spec/secret-stream.md §2.3).
const Alphabet = "ybndrfg8ejkmcpqxot1uwisza345h769"

var encoding = base32.NewEncoding(Alphabet).WithPadding(base32.NoPadding)

var errInvalid = errors.New("z32: not z-base-32")

// Encode returns b as text.
func Encode(b []byte) string { return encoding.EncodeToString(b) }

// Decode returns the bytes that s stands for. Bits at the end that do not fill
// a byte are ignored, as the reference does. Upper case, any other character
// outside the alphabet and lengths that no byte string has are errors.
func Decode(s string) ([]byte, error) {
	// encoding/base32 skips line breaks.
	if strings.ContainsAny(s, "\r\n") {
		return nil, errInvalid
	}
	b, err := encoding.DecodeString(s)
	if err != nil || encoding.EncodedLen(len(b)) != len(s) {
		return nil, errInvalid
	}
	return b, nil
}

// Package bencode is the byte language of the BitTorrent DHT (BEP 3).
//
//	integer      i 42 e            no leading zeros, no -0, at least one digit
//	byte string  4 : spam          the length without leading zeros
//	list         l 1:a i1e e
//	dictionary   d 1:a i1e 1:b le e  keys are byte strings in rising order
//
// Writing is always canonical: the Append functions make each element, and
// [Append] makes a whole value and sorts the keys.
//
// Reading has two degrees. A [Reader] walks over one message without
// allocating, from front to back, and is lenient exactly where deployed peers
// need it (docs/spec/mainline.md §2): keys may stand in any order and occur
// twice, bytes may follow the value, integers may be longer than 64 bits as
// long as nobody asks for them. [Check] is strict: it accepts the one canonical
// encoding and nothing else, which is what may be hashed, signed and stored
// (BEP 44). Both refuse sloppy integers and lengths ("i03e", "03:abc"), lengths
// past the end, and nesting deeper than [MaxDepth].
//
// Left out on purpose: struct tags and reflection. A protocol's messages are
// few, and reading them by hand is what makes it free of allocations.
package bencode

import "errors"

// MaxDepth is how deep lists and dictionaries may nest.
const MaxDepth = 100

// The ways in which bytes are not bencode.
var (
	ErrSyntax    = errors.New("bencode: malformed value")
	ErrTruncated = errors.New("bencode: unexpected end of input")
	ErrDepth     = errors.New("bencode: nested too deeply")
	ErrTrailing  = errors.New("bencode: bytes after the value")
	ErrKeyOrder  = errors.New("bencode: dictionary keys not in strictly rising order")
	ErrRange     = errors.New("bencode: integer of more than 64 bits")
)

package udx

import "sync/atomic"

// DefaultMaxMemory is what all streams of a Mux together keep of what they have
// received, in bytes, before each of them is held to a small share.
const DefaultMaxMemory = 64 << 20

// share is what a stream may always keep, in order or not, in bytes. It is a
// window's worth: an honest peer, which has been told of the window, is not
// refused what it has sent already.
const share = initialWindow

// memory counts what the streams of a Mux keep of what they have received: the
// slabs that it lies in, their descriptions, and messages. It is shared by all
// streams and has no lock. Nil counts nothing and is never short.
type memory struct {
	used atomic.Int64
	max  int64
}

// take counts n more bytes, or fewer.
func (m *memory) take(n int) {
	if m != nil {
		m.used.Add(int64(n))
	}
}

// left is how much is left, in bytes; less than nothing if the streams' shares
// have used more.
func (m *memory) left() int {
	if m == nil {
		return 1 << 30
	}
	return int(m.max - m.used.Load())
}

package secretstream

import (
	"sync"

	"github.com/warren-dht/warren/internal/sodium"
)

// headroom stands before the first frame of every buffer, so that the AEAD can
// work in place; see [sodium.Headroom].
const headroom = sodium.Headroom

// Sizes of buffers, without headroom. A connection that waits for a message
// holds at most a small one. A large one holds two frames of 64 KiB, what the
// reference sends at once.
const (
	smallSize  = 1 << 10
	mediumSize = 16 << 10
	largeSize  = 132 << 10
)

var sizes = [...]int{smallSize, mediumSize, largeSize}

// A buffer is a pooled piece of memory; b is the whole of it.
type buffer struct {
	b     []byte
	class int // index into sizes; len(sizes) if it is larger and not pooled
}

var pools [len(sizes)]sync.Pool

// borrow returns a buffer with room for n bytes behind the headroom.
func borrow(n int) *buffer {
	for class, size := range sizes {
		if n > size {
			continue
		}
		if p, ok := pools[class].Get().(*buffer); ok {
			return p
		}
		return &buffer{make([]byte, headroom+size), class}
	}
	return &buffer{make([]byte, headroom+n), len(sizes)}
}

// borrowedSize is the size of the buffer that borrow returns.
func borrowedSize(n int) int {
	for _, size := range sizes {
		if n <= size {
			return size
		}
	}
	return n
}

// giveBack ends the use of a buffer.
func (p *buffer) giveBack() {
	if p.class < len(sizes) {
		pools[p.class].Put(p)
	}
}

// size is the room behind the headroom.
func (p *buffer) size() int { return len(p.b) - headroom }

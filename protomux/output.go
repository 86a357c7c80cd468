package protomux

import (
	"reflect"
	"runtime"
	"sync"

	"github.com/warren-dht/warren/compact"
)

// output is what waits to be written to the stream, in frames. Guarded by the
// mux's lock.
type output struct {
	corked  int
	batch   *frames // the frame that is collected while corked; nil: none yet
	current uint64  // its current channel

	queue    *frames // nil: nothing waits
	flushing bool    // somebody writes, and will write what is queued meanwhile
}

// frames are complete frames in one piece of memory.
type frames struct {
	b    []byte
	ends []int
	list [][]byte
}

var framesPool = sync.Pool{New: func() any { return new(frames) }}

// maxPooled is the most memory that goes back to the pool.
const maxPooled = 2 * maxQueued

// slices returns the frames one by one.
func (f *frames) slices() [][]byte {
	start := 0
	for _, end := range f.ends {
		f.list = append(f.list, f.b[start:end])
		start = end
	}
	return f.list
}

func (f *frames) giveBack() {
	if cap(f.b) <= maxPooled && cap(f.list) <= maxPooled/24 {
		clear(f.list)
		f.b, f.ends, f.list = f.b[:0], f.ends[:0], f.list[:0]
		framesPool.Put(f)
	}
}

// frameCost is what a frame costs beside its bytes.
const frameCost = 32

func (f *frames) size() int {
	if f == nil {
		return 0
	}
	return len(f.b) + frameCost*len(f.ends)
}

// size is how much is queued.
func (o *output) size() int { return o.queue.size() }

// full says whether senders have to wait. Somebody is writing then.
func (o *output) full() bool { return o.flushing && o.size() > maxQueued }

// overfull says whether what the functions of channels have sent, and Run has let
// pass, is too much.
func (o *output) overfull() bool { return o.size()+o.batch.size() > maxQueued+maxWaived }

// runName is the name of Mux.Run in a stack.
var runName = runtime.FuncForPC(reflect.ValueOf((*Mux).Run).Pointer()).Name()

// underRun reports whether a Run has called us, of any mux: we are in a function
// of a channel or a listener, which must not wait for output. If two sides that
// answer each other waited for their streams, neither would read, and neither
// stream would ever take more. It is asked only when there is no room.
func underRun() bool {
	var pcs [64]uintptr
	for skip := 2; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs[:])
		if n == 0 {
			return false
		}
		for frames := runtime.CallersFrames(pcs[:n]); ; {
			f, more := frames.Next()
			if f.Function == runName {
				return true
			}
			if !more {
				break
			}
		}
	}
}

// frame returns the queue, to append a frame to its b and call end.
func (o *output) frame() *frames {
	if o.queue == nil {
		o.queue = framesPool.Get().(*frames)
	}
	return o.queue
}

func (f *frames) end() { f.ends = append(f.ends, len(f.b)) }

// put queues a message, or adds it to the batch. The caller holds mu and calls
// kick in the end.
func (m *Mux) put(channel, typ uint64, payload []byte) {
	o := &m.out
	if o.corked == 0 {
		f := o.frame()
		f.b = compact.AppendUint(f.b, channel)
		f.b = compact.AppendUint(f.b, typ)
		f.b = append(f.b, payload...)
		f.end()
		return
	}
	f := o.item(channel, compact.SizeUint(typ)+len(payload))
	f.b = compact.AppendUint(f.b, typ)
	f.b = append(f.b, payload...)
}

// putControl queues a control message about a channel.
func (m *Mux) putControl(typ, channel uint64) {
	var b [9]byte
	m.put(0, typ, compact.AppendUint(b[:0], channel))
}

// fits says whether a payload of n bytes can be sent.
func (o *output) fits(channel, typ uint64, n int) bool {
	n += compact.SizeUint(channel) + compact.SizeUint(typ)
	if o.corked > 0 {
		n += itemOverhead
	}
	return n <= MaxFrame
}

// itemOverhead is the most by which an item, alone, makes a batch longer than a
// frame of the same message.
const itemOverhead = 2 + 9

// item begins an item of n bytes, its type included, in the batch.
func (o *output) item(channel uint64, n int) *frames {
	f := o.batch
	if f != nil && (len(f.b) >= maxBatch || len(f.b)+1+compact.SizeUint(channel)+compact.SizeBuffer(n) > 2*maxBatch) {
		o.sendBatch()
		f = nil
	}
	switch {
	case f == nil:
		f = framesPool.Get().(*frames)
		f.b = append(f.b, 0, controlBatch)
		f.b = compact.AppendUint(f.b, channel)
		o.batch = f
	case o.current != channel:
		f.b = append(f.b, 0)
		f.b = compact.AppendUint(f.b, channel)
	}
	o.current = channel
	f.b = compact.AppendUint(f.b, uint64(n))
	return f
}

// sendBatch queues the batch, if there is one.
func (o *output) sendBatch() {
	f := o.batch
	if f == nil {
		return
	}
	o.batch = nil
	f.end()
	if o.queue == nil {
		o.queue = f
		return
	}
	o.queue.b = append(o.queue.b, f.b...)
	o.queue.end()
	f.giveBack()
}

// Cork makes what is sent from now on, by any channel, one batch that leaves
// with the matching Uncork. Pairs of them may lie in one another.
func (m *Mux) Cork() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out.corked++
}

// Uncork ends what Cork began.
func (m *Mux) Uncork() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.uncork()
}

func (m *Mux) uncork() {
	if m.out.corked == 0 {
		panic("BUG: protomux: Uncork without Cork")
	}
	if m.out.corked--; m.out.corked == 0 {
		m.out.sendBatch()
	}
	m.kick()
}

// kick sees to it that what is queued gets written: here and now, or, if
// somebody else is writing, after that. What the functions of channels send is
// written by another goroutine, which exists only while there is something to
// write: if Run waited for the stream to take its answers, and the peer did the
// same, both would wait for ever. The caller holds mu, which is released
// meanwhile.
func (m *Mux) kick() {
	o := &m.out
	if o.queue == nil || o.flushing || m.broken {
		return
	}
	o.flushing = true
	if !m.dispatching {
		m.flush()
	}
	if o.queue == nil || m.broken {
		m.flushed()
		return
	}
	go func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for o.queue != nil && !m.broken {
			m.flush()
		}
		m.flushed()
	}()
}

// flushed notes that nobody is writing any more.
func (m *Mux) flushed() {
	m.out.flushing = false
	if m.err != nil && !m.broken {
		m.sayGoodbye() // Run has ended meanwhile
	}
}

// flush writes what is queued now. The caller holds mu, which is released
// meanwhile.
func (m *Mux) flush() {
	f := m.out.queue
	m.out.queue = nil
	m.change.Broadcast() // there is room again while this is written
	m.mu.Unlock()
	_, err := m.conn.WriteMessages(f.slices())
	m.mu.Lock()
	f.giveBack()
	if err != nil {
		m.fail(err)
	}
	m.change.Broadcast()
}

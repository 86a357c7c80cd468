package protomux

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// heap is the memory in use.
func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// largeFrame is as large as a frame may be unless the application asks for more.
const largeFrame = 1 << 20

// One frame full of the smallest messages for a channel that waits makes the mux
// hold little more than the frame.
func TestHeldSmallMessages(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		var release func()
		h.Pair("p", nil, func(o *Offer) { release = o.Hold() })
		h.in(openFrame(1, "p", "", ""))
		b := []byte{0, controlBatch, 1}
		for len(b) < largeFrame {
			b = append(b, 1, 0) // an item of a byte: type 0, no payload
		}
		before := heap()
		h.in(b)
		if n := heap() - before; n > 3*len(b) {
			t.Errorf("%d bytes are held for a frame of %d", n, len(b))
		}
		got := 0
		c := must(h.Channel(ChannelConfig{Protocol: "p", Messages: []func(*Channel, []byte) error{func(*Channel, []byte) error { got++; return nil }}}))
		if err := c.Open(nil); err != nil {
			t.Fatal(err)
		}
		release()
		synctest.Wait()
		if want := (len(b) - 3) / 2; got != want || h.held != 0 {
			t.Errorf("%d messages of %d, %d held", got, want, h.held)
		}
	})
}

// Offers that wait for a decision hold their names, which count when they are
// long.
func TestHeldNames(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		var release []func()
		h.Pair("p", nil, func(o *Offer) { release = append(release, o.Hold()) })
		before := heap()
		id := make([]byte, largeFrame/2)
		for i := range 200 {
			copy(id, fmt.Sprint(i))
			h.wire.put(openFrame(uint64(i+1), "p", string(id), ""))
		}
		h.in()
		h.wire.mu.Lock()
		left := len(h.wire.incoming)
		h.wire.mu.Unlock()
		if left < 198 {
			t.Errorf("%d of 200 large offers were read; %d bytes are held", 200-left, heap()-before)
		}
		for len(release) > 0 {
			f := release[0]
			release = release[1:]
			f()
			synctest.Wait()
		}
		if h.held != 0 {
			t.Errorf("%d bytes are held in the end", h.held)
		}
	})
}

// A single batch of small requests does not draw answers without a bound from a
// channel's function when the peer does not read them.
func TestStallInsideBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := newPipe(0)
		far.room = 1
		m := New(near)
		near.room = -1
		answers := 0
		c := must(m.Channel(ChannelConfig{Protocol: "p", Messages: []func(*Channel, []byte) error{
			func(c *Channel, payload []byte) error { answers++; return c.Send(0, make([]byte, 16<<10)) },
		}}))
		c.Open(nil)
		near.put(openFrame(1, "p", "", ""))
		b := []byte{0, controlBatch, 1}
		for range 10_000 {
			b = append(b, 1, 0)
		}
		near.put(b)
		began := time.Now()
		err := m.Run()
		if !errors.Is(err, ErrStalled) || time.Since(began) != stallTime {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if most := 2 * (maxQueued + maxWaived) / (16 << 10); answers > most+2 {
			t.Errorf("%d answers", answers)
		}
		far.Close()
		synctest.Wait()
	})
}

// Rejects, which cost the peer next to nothing, count with what they cost here.
func TestManyRejects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := newPipe(0)
		far.room = 1
		m := New(near)
		near.room = -1
		open := openFrame(1, "p", "", "")
		const frames = 300_000
		for range frames {
			near.put(open)
		}
		ended := make(chan error, 1)
		go func() { ended <- m.Run() }()
		synctest.Wait()
		time.Sleep(stallTime - time.Second)
		m.mu.Lock()
		queued := m.out.queue.size()
		m.mu.Unlock()
		near.mu.Lock()
		left := len(near.incoming)
		near.mu.Unlock()
		if queued > maxQueued+maxWaived+100 || left == 0 {
			t.Errorf("%d bytes are queued, %d frames of %d are unread", queued, left, frames)
		}
		if err := <-ended; !errors.Is(err, ErrStalled) {
			t.Error(err)
		}
		far.Close()
		synctest.Wait()
	})
}

// Batches of several messages fit into what every peer accepts.
func TestBatchesFit(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		c := must(h.Channel(ChannelConfig{Protocol: "p"}))
		c.Open(nil)
		h.wire.sent()
		h.Cork()
		for _, n := range []int{10, maxBatch - 100, maxBatch, 2*maxBatch - 50, 10, 3 * maxBatch, 10} {
			if err := c.Send(0, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
		}
		h.Uncork()
		synctest.Wait()
		large := 0
		for _, f := range h.wire.sent() {
			if len(f) > largeFrame {
				large++
				b, err := parseBatch(f[2:])
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := b.next(); err != nil || b.r.Len() > 0 {
					t.Errorf("a batch of %d bytes has several messages (%v)", len(f), err)
				}
			}
		}
		if large != 1 {
			t.Errorf("%d large frames", large)
		}
	})
}

package protomux

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/compact"
)

// More than 32768 bytes for channels that wait stop the reading.
func TestHeldLimit(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		var release func()
		h.Pair("p", nil, func(o *Offer) { release = o.Hold() })
		h.in(openFrame(1, "p", "", ""))
		message := append([]byte{1, 0}, make([]byte, 512)...) // counts 1024
		for range 40 {
			h.in(message)
		}
		h.wire.mu.Lock()
		left := len(h.wire.incoming)
		h.wire.mu.Unlock()
		if left != 40-33 {
			t.Errorf("%d messages are unread", left)
		}
		got := 0
		c := must(h.Channel(ChannelConfig{Protocol: "p", Messages: []func(*Channel, []byte) error{func(*Channel, []byte) error { got++; return nil }}}))
		if err := c.Open(nil); err != nil {
			t.Fatal(err)
		}
		release()
		synctest.Wait()
		if got != 40 || h.held != 0 {
			t.Errorf("%d messages, %d held", got, h.held)
		}
		// The same for handshakes, and a reject lets go as well.
		h.in(openFrame(2, "p", "", string(make([]byte, 40000))), openFrame(3, "q", "", ""))
		h.want("paused", openFrame(1, "p", "", ""))
		release()
		h.want("goes on", controlFrame(controlReject, 2), controlFrame(controlReject, 3))
	})
}

func TestOfferLimit(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		h.Pair("p", nil, func(o *Offer) { o.Hold() })
		for i := range maxUnclaimed {
			h.wire.put(openFrame(uint64(i+1), "p", fmt.Sprint(i%3), ""))
		}
		h.want("held")
		h.in(openFrame(maxUnclaimed+1, "p", "", ""))
		h.want("one too many", controlFrame(controlReject, maxUnclaimed+1))
		if err, over := h.over(); over {
			t.Error(err)
		}
	})
}

func TestChannelNumberLimit(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		b := []byte{0, 0, 0}
		for i := range maxChannels {
			item := openFrame(uint64(i+1), "p", "", "")[1:]
			b = compact.AppendBuffer(b, item)
		}
		h.in(b)
		if err, over := h.over(); over {
			t.Fatal(err)
		}
		h.in(openFrame(maxChannels+1, "p", "", ""))
		if err, over := h.over(); !over || !errors.Is(err, ErrProtocol) {
			t.Error(err, over)
		}
	})
}

func TestNestedBatches(t *testing.T) {
	for _, depth := range []int{1, maxNesting, maxNesting + 1, 2000} {
		bubble(t, func(t *testing.T, h *harness) {
			b := openFrame(1, "p", "", "")[1:]
			for range depth {
				b = compact.AppendBuffer([]byte{controlBatch, 0}, b)
			}
			h.in(append([]byte{0}, b...))
			if err, over := h.over(); over != (depth > maxNesting) || over && !errors.Is(err, ErrProtocol) {
				t.Errorf("depth %d: %v, %v", depth, over, err)
			}
		})
	}
}

func TestBatchSize(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		c := must(h.Channel(ChannelConfig{Protocol: "p"}))
		c.Open(nil)
		h.wire.sent()
		h.Cork()
		h.Cork()
		payload := make([]byte, maxBatch/8+1)
		for range 9 {
			if err := c.Send(0, payload); err != nil {
				t.Fatal(err)
			}
		}
		h.Uncork()
		synctest.Wait()
		if sent := h.wire.sent(); len(sent) != 1 || len(sent[0]) < maxBatch || len(sent[0]) > maxBatch+len(payload) {
			t.Errorf("%d frames before the last Uncork", len(sent))
		}
		h.Uncork()
		synctest.Wait()
		if sent := h.wire.sent(); len(sent) != 1 || len(sent[0]) != 3+compact.SizeUint(uint64(len(payload)))+1+len(payload) {
			t.Errorf("%d frames after it", len(sent))
		}
	})
}

func TestTooLarge(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		c := must(h.Channel(ChannelConfig{Protocol: "p"}))
		payload := make([]byte, MaxFrame)
		if err := c.Open(payload); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
		if err := c.Open(nil); err != nil {
			t.Fatal(err)
		}
		h.wire.sent()
		for _, e := range []struct {
			corked bool
			n      int
			ok     bool
		}{
			{false, MaxFrame - 2, true}, {false, MaxFrame - 1, false}, {true, MaxFrame - 2 - itemOverhead, true}, {true, MaxFrame - 2, false},
		} {
			if e.corked {
				h.Cork()
			}
			if err := c.Send(0, payload[:e.n]); (err == nil) != e.ok || err != nil && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%+v: %v", e, err)
			}
			if e.corked {
				h.Uncork()
			}
			synctest.Wait()
			for _, f := range h.wire.sent() {
				if len(f) > MaxFrame {
					t.Errorf("%+v: frame of %d bytes", e, len(f))
				}
			}
		}
	})
}

// Two sides that answer everything, over streams that hold nothing: neither may
// wait for the other to read.
func TestNoDeadlock(t *testing.T) {
	pair(t, 0, func(t *testing.T, a, b *Mux) {
		const rounds = 200
		var wg sync.WaitGroup
		wg.Add(1)
		var first sync.Once // side to have had so many; the other may never
		cfg := func() ChannelConfig {
			count := 0
			return ChannelConfig{
				Protocol: "p",
				OnOpen: func(c *Channel, _ []byte) error {
					for range 3 {
						if err := c.Send(0, make([]byte, 5000)); err != nil {
							return err
						}
					}
					return nil
				},
				Messages: []func(*Channel, []byte) error{func(c *Channel, payload []byte) error {
					if count++; count >= rounds {
						first.Do(wg.Done)
						return nil
					}
					return c.Send(0, payload)
				}},
			}
		}
		b.Pair("p", nil, func(*Offer) { must(b.Channel(cfg())).Open(nil) })
		must(a.Channel(cfg())).Open(nil)
		wg.Wait()
	})
}

// Bulk in both directions, acknowledged by the functions of the channels: the
// bulk waits for room, the acknowledgements do not, and all of it gets through.
func TestFullDuplex(t *testing.T) {
	pair(t, 0, func(t *testing.T, a, b *Mux) {
		const messages, size = 40, 200 << 10
		var done sync.WaitGroup
		cfg := func() ChannelConfig {
			acks := 0
			return ChannelConfig{Protocol: "p", Messages: []func(*Channel, []byte) error{
				func(c *Channel, payload []byte) error { return c.Send(1, payload[:size/2]) },
				func(c *Channel, payload []byte) error {
					if acks++; acks == messages {
						done.Done()
					}
					return nil
				},
			}}
		}
		done.Add(2)
		bulk := func(c *Channel) {
			payload := make([]byte, size)
			for range messages {
				if err := c.Send(0, payload); err != nil {
					t.Error(err)
				}
			}
		}
		b.Pair("p", nil, func(*Offer) {
			c := must(b.Channel(cfg()))
			c.Open(nil)
			go bulk(c)
		})
		c := must(a.Channel(cfg()))
		c.Open(nil)
		go bulk(c)
		done.Wait()
	})
}

// A peer that asks and does not read: what it is answered is bounded, and then
// it is over.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := newPipe(0)
		far.room = 3 // the peer leaves that unread
		m := New(near)
		near.room = -1
		answers := 0
		c := must(m.Channel(ChannelConfig{Protocol: "p", Messages: []func(*Channel, []byte) error{
			func(c *Channel, payload []byte) error { answers++; return c.Send(0, make([]byte, 64<<10)) },
		}}))
		c.Open(nil)
		near.put(openFrame(1, "p", "", ""))
		for range 1000 {
			near.put([]byte{1, 0})
		}
		began := time.Now()
		ended := make(chan error, 1)
		var took time.Duration
		go func() {
			err := m.Run()
			took = time.Since(began)
			ended <- err
		}()
		synctest.Wait()
		if answers < maxWaived>>16 || answers > 2*(maxWaived+2*maxQueued)>>16 { // one part is being written
			t.Errorf("%d answers", answers)
		}
		// The peer reads a little, and it goes on.
		before := answers
		for range 200 {
			if _, err := far.ReadMessage(); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if answers == before {
			t.Error("it does not go on")
		}
		if err := <-ended; !errors.Is(err, ErrStalled) || took != stallTime {
			t.Errorf("after %v: %v", took, err)
		}
		far.Close() // lets the writer go
		synctest.Wait()
	})
}

// TestStallBehindTheWriter: on one processor Run has too much to write already
// when the goroutine that writes begins. Run goes on meanwhile, and it is over all
// the same when the peer never reads.
func TestStallBehindTheWriter(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		near, far := newPipe(0)
		far.room = 1
		m := New(near)
		near.room = -1
		answers := 0
		c := must(m.Channel(ChannelConfig{Protocol: "p", Messages: []func(*Channel, []byte) error{
			func(c *Channel, payload []byte) error {
				answers++
				c.Send(0, make([]byte, maxQueued+1))
				return c.Send(0, make([]byte, maxWaived))
			},
		}}))
		c.Open(nil)
		near.put(openFrame(1, "p", "", ""))
		for range 10 {
			near.put([]byte{1, 0})
		}
		began := time.Now()
		if err := m.Run(); !errors.Is(err, ErrStalled) || time.Since(began) != stallTime {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if answers > 3 {
			t.Errorf("%d answers", answers)
		}
		far.Close() // lets the writer go
		synctest.Wait()
	})
}

// Senders wait for a stream that does not take more, and are woken by the end.
func TestBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wa, wb := newPipe(0)
		a := New(wa)
		go a.Run()
		c := must(a.Channel(ChannelConfig{Protocol: "p"}))
		go c.Open(nil)
		synctest.Wait()
		var mu sync.Mutex
		sent, failed := 0, 0
		const senders, size = 8, 256 << 10
		for range senders {
			go func() {
				for range 100 {
					err := c.Send(0, make([]byte, size))
					mu.Lock()
					if err != nil {
						failed++
						mu.Unlock()
						return
					}
					sent++
					mu.Unlock()
				}
			}()
		}
		synctest.Wait()
		mu.Lock()
		if sent*size > 2*maxQueued {
			t.Errorf("%d bytes were taken", sent*size)
		}
		before := sent
		mu.Unlock()
		for range 10 {
			if _, err := wb.ReadMessage(); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		mu.Lock()
		if sent <= before {
			t.Error("nobody was woken")
		}
		mu.Unlock()
		a.Close()
		synctest.Wait()
		mu.Lock()
		if failed < senders-1 { // one may be writing
			t.Errorf("%d of %d senders have ended", failed, senders)
		}
		mu.Unlock()
		wb.Close()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if failed != senders {
			t.Errorf("%d of %d senders have ended", failed, senders)
		}
	})
}

package secretstream

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/warren-dht/warren/internal/sodium"
)

// A peer that announces a huge frame makes us hold not much more than it sends.
func TestAnnouncedFrame(t *testing.T) {
	for _, sent := range []int{0, 3, 4, 500, 1023, 1024, 5000, 16 << 10, 100_000, 140_000, 1 << 20} {
		a, b, rawA, rawB := scripted(t, Config{MaxMessage: MaxMessage})
		_ = a
		rawB.put(rawA.written())
		frame := appendPrefix(nil, maxFrame)
		frame = append(frame, make([]byte, 1<<20)...)
		rawB.put(frame[:sent])
		rawB.end(os.ErrDeadlineExceeded)
		if _, err := b.ReadMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if held := b.in.buf.size(); held > max(smallSize, 17*sent) || sent > largeSize && held > 3*sent {
			t.Errorf("%d bytes sent, %d held", sent, held)
		}
	}
}

// After a burst, a waiting reader holds a small buffer again.
func TestBufferShrinks(t *testing.T) {
	for _, extra := range []int{0, 1, 300, 3000, 30000} {
		a, b, rawA, rawB := scripted(t, Config{})
		big := make([]byte, 1<<20)
		for _, m := range [][]byte{big, big[:100_000], big[:40_000]} {
			if err := a.WriteMessage(m); err != nil {
				t.Fatal(err)
			}
			wire := rawA.written()
			if len(m) == 40_000 {
				wire = wire[:extra]
			}
			rawB.put(wire)
		}
		rawB.end(os.ErrDeadlineExceeded)
		for range 2 {
			if _, err := b.ReadMessage(); err != nil {
				t.Fatal(err)
			}
		}
		// The first read by which the frame is not complete may be into
		// a big buffer; the second waits.
		for range 2 {
			rawB.end(os.ErrDeadlineExceeded)
			if _, err := b.ReadMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
		}
		if held := b.in.buf.size(); held > max(smallSize, 17*extra) {
			t.Errorf("%d bytes wait for the rest of a frame in a buffer of %d", extra, held)
		}
	}
}

// A waiting raw stream says when there is something to read.
type waiting struct {
	*script
	check func()
	waits int
}

func (w *waiting) WaitRead() error {
	w.waits++
	w.check()
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.toRead) == 0 && w.readEnd == nil && !w.closed {
		w.changed.Wait()
	}
	if err := w.readEnd; len(w.toRead) == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		w.readEnd = nil
		return err
	}
	return nil
}

func TestWaitRead(t *testing.T) {
	a, _, rawA, _ := scripted(t, Config{})
	_, r := results()
	raw := &waiting{script: newScript()}
	b, err := New(raw, r, Config{})
	if err != nil {
		t.Fatal(err)
	}
	raw.check = func() {
		held := 0
		if b.in.buf != nil {
			held = b.in.buf.size()
		}
		if rest := b.in.hi - b.in.lo; held > 0 && rest == 0 || held > max(smallSize, 17*rest) {
			t.Errorf("waits with %d bytes in a buffer of %d", rest, held)
		}
	}
	for _, n := range []int{5, 100, 70_000, 300_000} {
		message := bytes.Repeat([]byte{byte(n)}, n)
		if err := a.WriteMessage(message); err != nil {
			t.Fatal(err)
		}
		wire := rawA.written()
		go func() {
			raw.put(wire[:len(wire)/3])
			raw.end(os.ErrDeadlineExceeded)
		}()
		if m, err := b.ReadMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d bytes of a part, %v", len(m), err)
		}
		raw.put(wire[len(wire)/3:])
		if m, err := b.ReadMessage(); err != nil || !bytes.Equal(m, message) {
			t.Fatalf("%d bytes, %v", len(m), err)
		}
	}
	// Read holds nothing beyond what it has not returned yet.
	if err := a.WriteMessage([]byte("ab")); err != nil {
		t.Fatal(err)
	}
	raw.put(rawA.written())
	for _, want := range []string{"a", "b"} {
		p := make([]byte, 1)
		if _, err := b.Read(p); err != nil || string(p) != want || (b.in.buf != nil) != (want == "a") {
			t.Fatalf("read %q, %v; holds a buffer: %v", p, err, b.in.buf != nil)
		}
	}
	raw.end(io.EOF)
	if m, err := b.ReadMessage(); err != io.EOF {
		t.Fatalf("%x, %v", m, err)
	}
	if raw.waits == 0 {
		t.Error("never waited")
	}
}

// Every frame that can be is sealed and opened where it stands.
func TestHeadroom(t *testing.T) {
	if headroom < sodium.Headroom-prefixSize {
		t.Error("the first frame of a buffer lacks headroom")
	}
	if chunk%8 != 0 || 8*(chunk+frameOverhead) > largeSize {
		t.Errorf("chunks of %d bytes", chunk)
	}
}

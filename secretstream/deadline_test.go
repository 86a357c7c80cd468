package secretstream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
)

// A deadline may strike anywhere in a write; what is said to be on its way
// arrives, once, when the next write is made.
func TestWriteDeadline(t *testing.T) {
	message := make([]byte, 3*chunk+100)
	for i := range message {
		message[i] = byte(i % 251)
	}
	wire := len(message) + 4*frameOverhead
	cuts := []int{0, 1, 2, 3, 19, 20, 21, chunk + frameOverhead - 1, chunk + frameOverhead, chunk + frameOverhead + 1, wire - 1}
	for _, cut := range cuts {
		a, b, rawA, rawB := scripted(t, Config{})
		rawA.writeCut = cut
		n, err := a.Write(message)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		frames := (cut + chunk + frameOverhead - 1) / (chunk + frameOverhead)
		if want := min(frames*chunk, len(message)); n != want {
			t.Errorf("cut at %d: %d bytes on their way, want %d", cut, n, want)
		}
		// The rest of a frame can be cut once more, and alone.
		if cut%7 == 1 {
			rawA.writeCut = 0
			if n, err := a.Write(message[n:]); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("cut at %d and again: %d, %v", cut, n, err)
			}
		}
		if m, err := a.Write(message[n:]); n+m != len(message) || err != nil {
			t.Errorf("cut at %d: then %d and %v", cut, m, err)
		}
		if err := a.WriteMessage([]byte("end")); err != nil {
			t.Fatal(err)
		}
		rawB.put(rawA.written())
		got := make([]byte, len(message)+3)
		if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got[:len(message)], message) || string(got[len(message):]) != "end" {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}

	// The same for messages, at every byte.
	messages := [][]byte{{1}, {}, {2, 3}}
	for cut := range 3*frameOverhead + 3 {
		a, b, rawA, rawB := scripted(t, Config{})
		rawA.writeCut = cut
		n, err := a.WriteMessages(messages)
		if !errors.Is(err, os.ErrDeadlineExceeded) || n > len(messages) {
			t.Fatalf("cut at %d: %d, %v", cut, n, err)
		}
		if cut == 3*frameOverhead+2 && n == 3 {
			if err := a.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		if m, err := a.WriteMessages(messages[n:]); n+m != len(messages) && err == nil {
			t.Fatalf("cut at %d: then %d and %v", cut, m, err)
		}
		rawB.put(rawA.written())
		for i, m := range messages {
			if got, err := b.ReadMessage(); err != nil || !bytes.Equal(got, m) {
				t.Fatalf("cut at %d: message %d is %x, %v", cut, i, got, err)
			}
		}
	}
}

// A reader that was interrupted by the deadline at any byte loses nothing.
func TestReadDeadline(t *testing.T) {
	a, b, rawA, rawB := scripted(t, Config{})
	for i := range 3 {
		if err := a.WriteMessage(bytes.Repeat([]byte{byte(i)}, i*40)); err != nil {
			t.Fatal(err)
		}
	}
	wire := rawA.written()
	received := 0
	for i := range wire {
		rawB.put(wire[i : i+1])
		rawB.end(os.ErrDeadlineExceeded)
		for {
			m, err := b.ReadMessage()
			if err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal(err)
				}
				break
			}
			if !bytes.Equal(m, bytes.Repeat([]byte{byte(received)}, received*40)) {
				t.Fatalf("message %d is %x", received, m)
			}
			received++
		}
	}
	if received != 3 {
		t.Fatalf("%d messages", received)
	}
}

func TestWaitPeer(t *testing.T) {
	a, b, rawA, rawB := scripted(t, Config{})
	if err := a.WriteMessage([]byte("x")); err != nil {
		t.Fatal(err)
	}
	rawB.end(os.ErrDeadlineExceeded)
	if err := b.WaitPeer(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("before the header: %v", err)
	}
	rawB.put(rawA.written())
	for range 2 {
		if err := b.WaitPeer(); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := b.ReadMessage(); err != nil || string(m) != "x" {
		t.Errorf("%q, %v", m, err)
	}
	rawA.put(make([]byte, 100))
	if err := a.WaitPeer(); !errors.Is(err, ErrFrame) || !rawA.closed {
		t.Errorf("zeros for a header: %v", err)
	}
	b.Close()
	if err := b.WaitPeer(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

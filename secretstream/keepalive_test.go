package secretstream

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const period = 5 * time.Second
		a, b, rawA, rawB := scripted(t, Config{KeepAlive: period})
		rawB.put(rawA.written())
		if m, err := readNow(b, rawB); err == nil {
			t.Fatalf("read %x", m)
		}
		// silence waits d and returns the length of what was sent meanwhile.
		silence := func(d time.Duration) int {
			time.Sleep(d)
			synctest.Wait()
			w := rawA.written()
			rawB.put(w)
			return len(w)
		}
		const empty = frameOverhead
		for _, e := range []struct {
			why  string
			wait time.Duration
			want int
		}{
			{"not yet", period - time.Millisecond, 0},
			{"once", time.Millisecond, empty},
			{"and again", period, empty},
			{"and again and again", 3 * period, 3 * empty},
		} {
			if got := silence(e.wait); got != e.want {
				t.Fatalf("%s: %d bytes, want %d", e.why, got, e.want)
			}
		}
		// A message restarts the period.
		time.Sleep(3 * time.Second)
		if err := a.WriteMessage([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if got := silence(period - time.Millisecond); got != empty+1 {
			t.Fatalf("after a message: %d bytes", got)
		}
		if got := silence(time.Millisecond); got != empty {
			t.Fatalf("a period after a message: %d bytes", got)
		}
		// The peer, whose keep-alive is on too, sees none of it.
		if m, err := b.ReadMessage(); err != nil || string(m) != "x" {
			t.Fatalf("%q, %v", m, err)
		}
		b.SetKeepAlive(0)
		if m, err := readNow(b, rawB); err == nil {
			t.Fatalf("read %q", m)
		}
		a.SetKeepAlive(time.Second)
		if got := silence(2 * time.Second); got != 2*empty {
			t.Fatalf("with a shorter period: %d bytes", got)
		}
		a.SetKeepAlive(0)
		if got := silence(time.Hour); got != 0 {
			t.Fatalf("switched off: %d bytes", got)
		}
		a.SetKeepAlive(time.Second)
		if err := a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		a.SetKeepAlive(time.Second)
		if got := silence(time.Hour); got != 0 {
			t.Fatalf("after the end: %d bytes", got)
		}
	})
}

var errNothing = errors.New("nothing to read")

// readNow reads a message if there is one.
func readNow(c *Conn, raw *script) ([]byte, error) {
	type read struct {
		m   []byte
		err error
	}
	done := make(chan read, 1)
	go func() {
		m, err := c.ReadMessage()
		done <- read{m, err}
	}()
	synctest.Wait()
	select {
	case r := <-done:
		return r.m, r.err
	default:
		// Send the reader home; a deadline is no loss.
		raw.end(context.DeadlineExceeded)
		<-done
		c.in.turn.Acquire(context.Background(), 1)
		c.in.err = nil
		c.in.turn.Release(1)
		raw.end(nil)
		return nil, errNothing
	}
}

// Without keep-alive, empty messages are messages.
func TestEmptyMessages(t *testing.T) {
	for _, skip := range []bool{false, true} {
		a, b, rawA, rawB := scripted(t, Config{SkipEmpty: skip})
		if _, err := a.WriteMessages([][]byte{{}, {}, {1}}); err != nil {
			t.Fatal(err)
		}
		rawB.put(rawA.written())
		for i, want := range map[bool][]int{false: {0, 0, 1}, true: {1}}[skip] {
			if m, err := b.ReadMessage(); err != nil || len(m) != want {
				t.Errorf("skip %v: message %d is %x, %v", skip, i, m, err)
			}
		}
	}
}

// The keep-alive of a broken connection ends.
func TestKeepAliveOfBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, rawA, _ := scripted(t, Config{KeepAlive: time.Second})
		rawA.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		a.keepAlive.mu.Lock()
		defer a.keepAlive.mu.Unlock()
		if a.keepAlive.timer != nil {
			t.Error("the timer runs on")
		}
	})
}

func TestHandshakeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, timeout := range []time.Duration{0, 3 * time.Second} {
			raw := newScript()
			began := time.Now()
			_, err := Client(t.Context(), raw, Config{HandshakeTimeout: timeout})
			want := timeout
			if want == 0 {
				want = DefaultHandshakeTimeout
			}
			if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrHandshake) || time.Since(began) != want {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
			if !raw.closed {
				t.Error("raw stream not closed")
			}
		}
		// Never, by the configuration.
		raw := newScript()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		if _, err := Server(ctx, raw, Config{HandshakeTimeout: -1}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Hour {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// Connections that have been silent since about the same time say so together,
// never late.
func TestKeepAlivesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const period = 5 * time.Second
		var raws []*script
		for range 10 {
			_, _, raw, _ := scripted(t, Config{KeepAlive: period})
			raw.written()
			raws = append(raws, raw)
			time.Sleep(7 * time.Millisecond)
		}
		began := time.Now()
		for round := range 3 {
			sent := 0
			moments := 0
			for time.Since(began) < time.Duration(round+1)*period {
				time.Sleep(time.Millisecond)
				synctest.Wait()
				before := sent
				for _, raw := range raws {
					sent += len(raw.written())
				}
				if sent > before {
					moments++
				}
			}
			if sent != len(raws)*frameOverhead || moments > 2 {
				t.Errorf("round %d: %d bytes at %d moments", round, sent, moments)
			}
		}
	})
}

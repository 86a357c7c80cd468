package secretstream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// A victim is the receiving end of a stream whose peer is the test.
type victim struct {
	*Conn
	raw  *script
	peer *Conn
	wire *script // what the peer writes
}

// newVictim makes a stream; with waits its raw stream can say when there is
// something to read, as UDX can.
func newVictim(t *testing.T, waits bool, cfg Config) *victim {
	i, r := results()
	v := &victim{raw: newScript(), wire: newScript()}
	var raw net.Conn = v.raw
	if waits {
		raw = &waiting{script: v.raw, check: func() {}}
	}
	var err1, err2 error
	v.Conn, err1 = New(raw, r, cfg)
	v.peer, err2 = New(v.wire, i, cfg)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	v.raw.put(v.wire.written())
	return v
}

func (s *script) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// frame returns a frame of the peer's with a message of n bytes.
func (v *victim) frame(t *testing.T, n int) []byte {
	if err := v.peer.WriteMessage(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	return v.wire.written()
}

// TestStalledFrame: a frame that was begun has to go on while somebody reads.
func TestStalledFrame(t *testing.T) {
	const size = 400_000
	for _, c := range []struct {
		name        string
		first, step int           // bytes at the start, and after each pause
		pause       time.Duration // 0: nothing more comes
		min, max    time.Duration // when it ends; 0: the message arrives
	}{
		{"a byte of its length", 1, 0, 0, stallTime - stallTick, stallTime + stallTick},
		{"its length", 3, 0, 0, stallTime - stallTick, stallTime + stallTick},
		{"half of it", size / 2, 0, 0, stallTime - stallTick, stallTime + stallTick},
		{"all but one byte", size + 19, 0, 0, stallTime - stallTick, stallTime + stallTick},
		{"a byte now and then", 3, 1, 20 * time.Second, 120 * time.Second, 140 * time.Second},
		{"slowly", 3, 5000, time.Second, 0, 0},
		{"in two parts", size / 2, size, stallTime - 3*stallTick, 0, 0},
	} {
		for _, waits := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					v := newVictim(t, waits, Config{})
					wire := v.frame(t, size)
					began := time.Now()
					go func() {
						v.raw.put(wire[:c.first])
						for rest := wire[c.first:]; c.pause > 0 && len(rest) > 0 && !v.raw.isClosed(); {
							time.Sleep(c.pause)
							n := min(c.step, len(rest))
							v.raw.put(rest[:n])
							rest = rest[n:]
						}
					}()
					m, err := v.ReadMessage()
					took := time.Since(began)
					switch {
					case c.max == 0:
						if err != nil || len(m) != size {
							t.Errorf("%d bytes, %v, after %v", len(m), err, took)
						}
					case !errors.Is(err, ErrStalled) || took < c.min || took > c.max:
						t.Errorf("%v after %v", err, took)
					case !v.raw.isClosed():
						t.Error("the raw stream is not ended")
					default:
						if v.in.buf != nil {
							t.Error("holds a buffer")
						}
						if _, err := v.ReadMessage(); !errors.Is(err, ErrStalled) {
							t.Errorf("then %v", err)
						}
					}
					v.Close()
					time.Sleep(time.Hour) // lets all timers and the peer end
				})
			})
		}
	}
}

// A stream between two frames may be silent for ever, and so may one that nobody
// reads.
func TestNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVictim(t, true, Config{})
		wire := v.frame(t, 1000)
		go func() {
			time.Sleep(24 * time.Hour)
			v.raw.put(wire[:500])
			time.Sleep(20 * time.Second)
			v.raw.put(wire[500:])
		}()
		if _, err := v.ReadMessage(); err != nil {
			t.Fatal(err)
		}
		wire = v.frame(t, 1000)
		v.raw.put(wire[:500])
		v.raw.end(os.ErrDeadlineExceeded)
		for range 2 { // the second one begins anew
			if _, err := v.ReadMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			time.Sleep(24 * time.Hour)
			v.raw.end(os.ErrDeadlineExceeded)
		}
		v.raw.put(wire[500:])
		if _, err := v.ReadMessage(); err != nil {
			t.Fatal(err)
		}
		v.Close()
	})
}

// junk is a frame as large as that of a message of n bytes.
func junk(n int) []byte {
	return append(appendPrefix(nil, n+17), make([]byte, n+17)...)
}

// claimed is what the frames of all streams claim, and how many claim or wait.
func claimed() (size, count int) {
	frames.mu.Lock()
	defer frames.mu.Unlock()
	return frames.used, len(frames.claims) + len(frames.waiting)
}

// held is what streams hold in buffers. Their readers all wait.
func held(list []*victim) (n int) {
	for _, v := range list {
		if v.in.buf != nil {
			n += v.in.buf.size()
		}
	}
	return n
}

// Frames that never end, on many streams at a time, hold no more than the budget
// and a small buffer each, and are ended.
func TestEndlessFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = 40
		var list []*victim
		wire := junk(DefaultMaxMessage)
		errs := make(chan error, streams)
		for range streams {
			v := newVictim(t, true, Config{})
			list = append(list, v)
			go func() {
				for rest := wire[:len(wire)-1]; len(rest) > 0; {
					n := min(64<<10, len(rest))
					v.raw.put(rest[:n])
					rest = rest[n:]
					time.Sleep(time.Millisecond)
				}
			}()
			go func() {
				_, err := v.ReadMessage()
				errs <- err
			}()
		}
		most := 0
		began := time.Now()
		for len(errs) < streams && time.Since(began) < 10*time.Minute {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			most = max(most, held(list))
			if n, _ := claimed(); n > frames.max {
				t.Fatalf("%d bytes are claimed", n)
			}
		}
		t.Logf("%d bytes at most; all ended after %v", most, time.Since(began))
		if most > frames.max+streams*(mediumSize+smallSize) {
			t.Errorf("%d bytes are held", most)
		}
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("they are ended after %v", took)
		}
		for range streams {
			if err := <-errs; !errors.Is(err, ErrStalled) {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if size, count := claimed(); size+count+held(list) != 0 {
			t.Errorf("%d bytes are claimed, %d claim or wait, %d bytes are held", size, count, held(list))
		}
	})
}

// Large messages of many honest peers take turns and all arrive, though
// others let theirs trickle.
func TestFramesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 10 { // trickle
			v := newVictim(t, true, Config{})
			wire := junk(DefaultMaxMessage)
			stop := make(chan struct{})
			go func() {
				for v.raw.put(wire[:100]); ; {
					wire = wire[100:]
					select {
					case <-stop:
						return
					case <-time.After(time.Second):
						v.raw.put(wire[:100])
					}
				}
			}()
			go func() {
				if _, err := v.ReadMessage(); !errors.Is(err, ErrStalled) {
					t.Error(err)
				}
				close(stop)
			}()
		}
		time.Sleep(10 * time.Second)
		const streams = 20
		done := make(chan error, streams)
		for range streams {
			v := newVictim(t, true, Config{})
			wire := v.frame(t, DefaultMaxMessage)
			go func() { // a megabit a second
				for rest := wire; len(rest) > 0; {
					n := min(12_500, len(rest))
					v.raw.put(rest[:n])
					rest = rest[n:]
					time.Sleep(100 * time.Millisecond)
				}
			}()
			go func() {
				_, err := v.ReadMessage()
				done <- err
				v.Close()
			}()
		}
		for range streams {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		time.Sleep(10 * time.Minute) // the rest ends
		if size, count := claimed(); size+count != 0 {
			t.Errorf("%d bytes are claimed, %d claim or wait", size, count)
		}
	})
}

// A stream that waits for its turn heeds Close and the read deadline, and loses
// nothing.
func TestTurnEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		frames.mu.Lock()
		frames.used += frames.max // nobody's, so nobody is ended for it
		frames.mu.Unlock()
		free := func() {
			frames.mu.Lock()
			frames.used -= frames.max
			frames.mu.Unlock()
		}
		v, closed := newVictim(t, true, Config{}), newVictim(t, true, Config{})
		wire := v.frame(t, 500_000)
		v.raw.put(wire)
		closed.raw.put(wire)
		v.SetReadDeadline(time.Now().Add(time.Minute))
		began := time.Now()
		if _, err := v.ReadMessage(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		time.AfterFunc(time.Minute, func() { closed.Close() })
		if _, err := closed.ReadMessage(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		v.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Hour, free)
		if m, err := v.ReadMessage(); err != nil || !bytes.Equal(m, make([]byte, 500_000)) {
			t.Errorf("%d bytes, %v", len(m), err)
		}
		if size, count := claimed(); size+count != 0 {
			t.Errorf("%d bytes are claimed, %d claim or wait", size, count)
		}
		v.raw.end(io.EOF)
		v.Close()
	})
}

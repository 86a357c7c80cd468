package secretstream

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// loop is a raw stream that reads what is written to it, through one buffer:
// what is measured over it is this package alone.
type loop struct {
	net.Conn
	b    []byte
	r, w int
}

func (l *loop) Write(p []byte) (int, error) {
	if l.r == l.w {
		l.r, l.w = 0, 0
	}
	n := copy(l.b[l.w:], p)
	l.w += n
	return n, nil
}

func (l *loop) Read(p []byte) (int, error) {
	if l.r == l.w {
		return 0, io.EOF
	}
	n := copy(p, l.b[l.r:l.w])
	l.r += n
	return n, nil
}

func (l *loop) Close() error { return nil }

// looped returns a stream that writes to itself as its own peer: a reads what
// b has written, if both are used in turns.
func looped(t testing.TB) (a, b *Conn) {
	t.Helper()
	raw := &loop{b: make([]byte, 1<<20)}
	i, r := results()
	a, err := New(raw, i, Config{})
	if err != nil {
		t.Fatal(err)
	}
	raw.r, raw.w = 0, 0 // a's header is for nobody
	b, err = New(raw, r, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.WaitPeer(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// A message in steady state costs no allocation on either side.
func TestAllocations(t *testing.T) {
	a, b := looped(t)
	for _, n := range []int{0, 1, 64, 1000, 5000, chunk, 3 * chunk, 100_000} {
		message, buf := make([]byte, n), make([]byte, n)
		batch := [][]byte{message, message[:n/2], message}
		for what, f := range map[string]func() error{
			"Write": func() error {
				if _, err := b.Write(message); err != nil {
					return err
				}
				_, err := io.ReadFull(a, buf)
				return err
			},
			"WriteMessage": func() error {
				if err := b.WriteMessage(message); err != nil {
					return err
				}
				_, err := a.ReadMessage()
				return err
			},
			"WriteMessages": func() error {
				if _, err := b.WriteMessages(batch); err != nil {
					return err
				}
				for range batch {
					if _, err := a.ReadMessage(); err != nil {
						return err
					}
				}
				return nil
			},
		} {
			allocs := testing.AllocsPerRun(200, func() {
				if err := f(); err != nil {
					t.Fatal(err)
				}
			})
			// The pools may be emptied meanwhile, and the race detector
			// empties them on purpose.
			if allocs > 0 && !raceEnabled {
				t.Errorf("%s of %d bytes: %v allocations", what, n, allocs)
			}
		}
	}
}

func BenchmarkMessage(b *testing.B) {
	for _, n := range []int{64, 1200, 16360, 65536} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r, w := looped(b)
			message := make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if err := w.WriteMessage(message); err != nil {
					b.Fatal(err)
				}
				if _, err := r.ReadMessage(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, plain := range []bool{true, false} {
		b.Run(fmt.Sprintf("plain=%v", plain), func(b *testing.B) {
			w, r := tcp(b)
			if !plain {
				c, s := shaken(b, w, r, Config{}, Config{})
				w, r = c, s
			}
			go io.Copy(r, r)
			p := make([]byte, 64)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Write(p); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(w, p); err != nil {
					b.Fatal(err)
				}
			}
			w.Close()
		})
	}
}

// A mute is a raw stream from which nothing comes.
type mute struct {
	net.Conn
	reading chan<- struct{}
	closed  chan struct{}
}

func (m *mute) Write(p []byte) (int, error) { return len(p), nil }

func (m *mute) Read(p []byte) (int, error) {
	m.reading <- struct{}{}
	<-m.closed
	return 0, net.ErrClosed
}

func (m *mute) Close() error { close(m.closed); return nil }

// A stream with a waiting reader and a keep-alive holds little: less than 3 KB,
// beside the raw stream and the reader's goroutine.
func TestIdleMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own")
	}
	const n = 1000
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // empties the pools
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	weigh := func(encrypted bool) int64 {
		reading := make(chan struct{})
		conns := make([]net.Conn, 0, n)
		before := heap()
		for range n {
			var c net.Conn = &mute{reading: reading, closed: make(chan struct{})}
			if encrypted {
				i, _ := results()
				s, err := New(c, i, Config{KeepAlive: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				c = s
			}
			conns = append(conns, c)
			go c.Read(make([]byte, 1))
			<-reading
		}
		after := heap()
		for _, c := range conns {
			c.Close()
		}
		return (after - before) / n
	}
	plain := weigh(false)
	if got := weigh(true) - plain; got > 3000 {
		t.Errorf("an idle stream weighs %d bytes", got)
	} else {
		t.Logf("an idle stream weighs %d bytes", got)
	}
}

package secretstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"

	"github.com/warren-dht/warren/noise"
)

func TestNetConn(t *testing.T) {
	t.Run("tcp", func(t *testing.T) {
		nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
			a, b := tcp(t)
			c, s := shaken(t, a, b, Config{}, Config{})
			return c, s, func() { c.Close(); s.Close() }, nil
		})
	})
	t.Run("pipe", func(t *testing.T) {
		nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
			c, s := piped(t)
			return c, s, func() { c.Close(); s.Close() }, nil
		})
	})
}

// piped returns a stream over a net.Pipe, which holds nothing: the headers are
// through when it returns.
func piped(t *testing.T) (client, server *Conn) {
	t.Helper()
	a, b := net.Pipe()
	i, r := results()
	made := make(chan *Conn)
	go func() {
		c, err := New(a, i, Config{})
		if err == nil {
			err = c.in.header()
		}
		if err != nil {
			t.Error(err)
		}
		made <- c
	}()
	server = newConn(b, Config{})
	server.in.key, server.in.id, server.hash = r.Rx, *new([idSize]byte), r.Hash
	server.in.id = server.streamID(true)
	if err := server.in.header(); err != nil {
		t.Fatal(err)
	}
	if err := server.start(r, Config{}, nil); err != nil {
		t.Fatal(err)
	}
	return <-made, server
}

func TestHandshakes(t *testing.T) {
	ck, sk, other := noise.GenerateKeyPair(), noise.GenerateKeyPair(), noise.GenerateKeyPair()
	for _, e := range []struct {
		why            string
		client, server Config
		ok             bool
	}{
		{"XX", Config{Static: ck}, Config{Static: sk}, true},
		{"XX with made up keys", Config{}, Config{}, true},
		{"XX, the client expects the server", Config{Static: ck, RemotePublicKey: sk.Public}, Config{Static: sk}, true},
		{"XX, the client expects another", Config{Static: ck, RemotePublicKey: other.Public}, Config{Static: sk}, false},
		{"XX, the server expects the client", Config{Static: ck}, Config{Static: sk, RemotePublicKey: ck.Public}, true},
		{"XX, the server expects another", Config{Static: ck}, Config{Static: sk, RemotePublicKey: other.Public}, false},
		{"IK", Config{Pattern: noise.IK, Static: ck, RemotePublicKey: sk.Public}, Config{Pattern: noise.IK, Static: sk}, true},
		{"IK with another key", Config{Pattern: noise.IK, Static: ck, RemotePublicKey: other.Public}, Config{Pattern: noise.IK, Static: sk}, false},
		{"IK without a key", Config{Pattern: noise.IK, Static: ck}, Config{Pattern: noise.IK, Static: sk}, false},
		{"IK, the server expects another", Config{Pattern: noise.IK, Static: ck, RemotePublicKey: sk.Public}, Config{Pattern: noise.IK, Static: sk, RemotePublicKey: other.Public}, false},
		{"IK to XX", Config{Pattern: noise.IK, Static: ck, RemotePublicKey: sk.Public}, Config{Static: sk}, false},
		{"XX to IK", Config{Static: ck}, Config{Pattern: noise.IK, Static: sk}, false},
	} {
		t.Run(e.why, func(t *testing.T) {
			a, b := tcp(t)
			type outcome struct {
				c   *Conn
				err error
			}
			served := make(chan outcome, 1)
			go func() {
				c, err := Server(t.Context(), b, e.server)
				served <- outcome{c, err}
			}()
			c, err := Client(t.Context(), a, e.client)
			s := <-served
			if !e.ok {
				if !errors.Is(err, ErrHandshake) && !errors.Is(s.err, ErrHandshake) {
					t.Fatalf("errors %v and %v", err, s.err)
				}
				// A side that was content notices when it reads.
				for _, o := range []outcome{{c, err}, s} {
					if o.err == nil {
						if m, err := o.c.ReadMessage(); err == nil {
							t.Errorf("read %x", m)
						}
					}
				}
				return
			}
			if err := errors.Join(err, s.err); err != nil {
				t.Fatal(err)
			}
			if c.HandshakeHash() != s.c.HandshakeHash() || c.RemotePublicKey() != s.c.PublicKey() || s.c.RemotePublicKey() != c.PublicKey() {
				t.Error("the sides do not agree")
			}
			if !c.Initiator() || s.c.Initiator() || e.client.Static != nil && c.PublicKey() != ck.Public {
				t.Error("roles or keys are wrong")
			}
			if c.LocalAddr() != a.LocalAddr() || c.RemoteAddr() != a.RemoteAddr() || c.NetConn() != a {
				t.Error("the raw stream is not shown")
			}
			if err := c.WriteMessage([]byte("to")); err != nil {
				t.Fatal(err)
			}
			if err := s.c.WriteMessage([]byte("fro")); err != nil {
				t.Fatal(err)
			}
			if m, err := s.c.ReadMessage(); err != nil || string(m) != "to" {
				t.Fatalf("%q, %v", m, err)
			}
			if m, err := c.ReadMessage(); err != nil || string(m) != "fro" {
				t.Fatalf("%q, %v", m, err)
			}
		})
	}
}

func TestHandshakeCancelled(t *testing.T) {
	a, b := tcp(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Server(ctx, b, Config{})
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || !errors.Is(err, ErrHandshake) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the raw stream was not closed: %v", err)
	}
	if _, err := a.Read(make([]byte, 1)); err == nil {
		t.Error("a byte came")
	}
}

// Messages keep their boundaries; a Read does not care for them.
func TestMessages(t *testing.T) {
	a, b, rawA, rawB := scripted(t, Config{})
	sizes := []int{0, 1, 2, chunk - 1, chunk, chunk + 1, 0, 65536, largeSize, largeSize + 1, 1 << 20, 3}
	var sent [][]byte
	for i, n := range sizes {
		sent = append(sent, bytes.Repeat([]byte{byte(i + 1)}, n))
	}
	check := func() {
		t.Helper()
		for i, m := range sent {
			if got, err := b.ReadMessage(); err != nil || !bytes.Equal(got, m) {
				t.Fatalf("message %d of %d bytes: %d bytes, %v", i, len(m), len(got), err)
			}
		}
	}
	for _, m := range sent {
		if err := a.WriteMessage(m); err != nil {
			t.Fatal(err)
		}
	}
	rawB.put(rawA.written())
	check()

	if n, err := a.WriteMessages(sent); n != len(sent) || err != nil {
		t.Fatal(n, err)
	}
	if len(rawA.writes) >= len(sent) {
		t.Errorf("%d writes for %d messages", len(rawA.writes), len(sent))
	}
	rawB.put(rawA.written())
	check()

	all := bytes.Join(sent, nil)
	for _, m := range sent {
		if n, err := a.Write(m); n != len(m) || err != nil {
			t.Fatal(n, err)
		}
	}
	rawB.put(rawA.written())
	got := make([]byte, len(all))
	if n, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, all) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if r, w := b.BytesRead(), a.BytesWritten(); r != w || r <= 3*uint64(len(all)) {
		t.Errorf("%d bytes read, %d written", r, w)
	}

	// What Read has left of a message is a message.
	if err := a.WriteMessage([]byte("abcdef")); err != nil {
		t.Fatal(err)
	}
	rawB.put(rawA.written())
	if n, err := b.Read(got[:2]); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if m, err := b.ReadMessage(); err != nil || string(m) != "cdef" {
		t.Fatalf("%q, %v", m, err)
	}
}

func TestWriteTo(t *testing.T) {
	a, b, rawA, rawB := scripted(t, Config{})
	want := make([]byte, 100_000)
	for i := range want {
		want[i] = byte(i % 253)
	}
	if _, err := a.WriteMessages([][]byte{want[:10], {}, want[10:]}); err != nil {
		t.Fatal(err)
	}
	rawB.put(rawA.written())
	if _, err := b.Read(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	rawB.end(io.EOF)
	var got bytes.Buffer
	if n, err := io.Copy(&got, b); int(n) != len(want)-4 || err != nil || !bytes.Equal(got.Bytes(), want[4:]) {
		t.Fatal(n, err)
	}
	// The errors of both sides come through.
	for _, to := range []io.Writer{io.Discard, failingWriter{}} {
		a, b, rawA, rawB := scripted(t, Config{})
		if err := a.WriteMessage(want); err != nil {
			t.Fatal(err)
		}
		rawB.put(rawA.written())
		rawB.end(errBroken)
		if _, err := io.Copy(to, b); !errors.Is(err, errBroken) {
			t.Error(err)
		}
	}
}

var errBroken = errors.New("broken")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errBroken }

// A raw stream that returns nothing for ever does not keep us busy for ever.
type idler struct{ *script }

func (idler) Read([]byte) (int, error) { return 0, nil }

func TestNoProgress(t *testing.T) {
	i, _ := results()
	c, err := New(idler{newScript()}, i, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.ErrNoProgress) {
		t.Error(n, err)
	}
}

func TestTooLarge(t *testing.T) {
	a, _, rawA, _ := scripted(t, Config{})
	rawA.written()
	huge := make([]byte, MaxMessage+1)
	if err := a.WriteMessage(huge); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if n, err := a.WriteMessages([][]byte{{1}, huge}); n != 0 || !errors.Is(err, ErrTooLarge) {
		t.Error(n, err)
	}
	if w := rawA.written(); len(w) != 0 {
		t.Errorf("%d bytes were written", len(w))
	}
	if err := a.WriteMessage(huge[:MaxMessage]); err != nil {
		t.Fatal(err)
	}
	i, r := results()
	rawB := newScript()
	b, err := New(rawB, r, Config{MaxMessage: MaxMessage})
	if err != nil {
		t.Fatal(err)
	}
	// a's header went with the first writes.
	rawA = newScript()
	if a, err = New(rawA, i, Config{}); err != nil {
		t.Fatal(err)
	}
	if err := a.WriteMessage(huge[:MaxMessage]); err != nil {
		t.Fatal(err)
	}
	rawB.put(rawA.written())
	if m, err := b.ReadMessage(); err != nil || len(m) != MaxMessage {
		t.Fatalf("%d bytes, %v", len(m), err)
	}
}

func TestMaxMessage(t *testing.T) {
	for _, e := range []struct{ limit, later, n int }{
		{100, 0, 100}, {0, 0, DefaultMaxMessage}, {100, 200, 200}, {200, 100, 100}, {0, 2 << 20, 2 << 20}, {-1, 0, DefaultMaxMessage},
	} {
		for _, n := range []int{e.n, e.n + 1} {
			a, b, rawA, rawB := scripted(t, Config{MaxMessage: e.limit})
			if e.later > 0 {
				b.SetMaxMessage(e.later)
			}
			if err := a.WriteMessage(make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			rawB.put(rawA.written())
			if m, err := b.ReadMessage(); (err == nil) != (n == e.n) || err != nil && !errors.Is(err, ErrFrame) {
				t.Errorf("%+v: message of %d bytes: %d, %v", e, n, len(m), err)
			}
		}
	}
}

func TestEnds(t *testing.T) {
	// The raw stream's end, between frames and inside, and its errors.
	reset := errors.New("reset")
	for _, e := range []struct {
		why       string
		cut       int // bytes missing
		raw, want error
	}{
		{"end", 0, io.EOF, io.EOF},
		{"end inside", 1, io.EOF, io.ErrUnexpectedEOF},
		{"error", 0, reset, reset},
		{"error inside", 20, reset, reset},
	} {
		a, b, rawA, rawB := scripted(t, Config{})
		if err := a.WriteMessage([]byte("first")); err != nil {
			t.Fatal(err)
		}
		rawB.put(rawA.written())
		if err := a.WriteMessage([]byte("second")); err != nil {
			t.Fatal(err)
		}
		wire := rawA.written()
		if e.cut > 0 {
			rawB.put(wire[:len(wire)-e.cut])
		}
		rawB.end(e.raw)
		got, err := io.ReadAll(b)
		if e.want == io.EOF {
			e.want = nil
		}
		if string(got) != "first" || !errors.Is(err, e.want) || err != nil && e.want == nil {
			t.Errorf("%s: %q, %v, want %v", e.why, got, err, e.want)
		}
		if _, err := b.ReadMessage(); err == nil {
			t.Errorf("%s: goes on", e.why)
		}
		// The other direction is still there.
		if err := b.WriteMessage([]byte("back")); err != nil {
			t.Errorf("%s: %v", e.why, err)
		}
	}

	// No header at all.
	_, b, _, rawB := scripted(t, Config{})
	rawB.end(io.EOF)
	if m, err := b.ReadMessage(); err != io.EOF {
		t.Errorf("end before the header: %x, %v", m, err)
	}
}

func TestHalfClose(t *testing.T) {
	a, b := tcp(t)
	c, s := shaken(t, a, b, Config{KeepAlive: time.Minute}, Config{})
	if _, err := c.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after CloseWrite: %v", err)
	}
	if got, err := io.ReadAll(s); err != nil || string(got) != "question" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := s.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "answer" {
		t.Fatalf("%q, %v", got, err)
	}
	if err := s.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}

	c, _ = piped(t)
	if err := c.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("CloseWrite over a pipe: %v", err)
	}
}

// Close makes waiting reads return and lets nothing that was received be read.
func TestClose(t *testing.T) {
	a, b, rawA, rawB := scripted(t, Config{})
	if _, err := a.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	rawB.put(rawA.written())
	if _, err := b.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if n, err := b.Read(make([]byte, 10)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read %d, %v", n, err)
	}
	if m, err := b.ReadMessage(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read %x, %v", m, err)
	}
	done := make(chan error)
	go func() {
		_, err := a.Read(make([]byte, 1))
		done <- err
	}()
	a.Destroy(errors.New("enough"))
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if rawA.destroy == nil || rawA.destroy.Error() != "enough" {
		t.Errorf("raw stream destroyed with %v", rawA.destroy)
	}
}

// A side that only writes, and closes before it has read the peer's header,
// loses nothing of it.
func TestCloseWithoutReading(t *testing.T) {
	a, b := tcp(t)
	c, s := shaken(t, a, b, Config{}, Config{})
	message := make([]byte, 1<<20)
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(message)
		err = errors.Join(err, c.Close())
		if n, err := c.Write(message); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after Close: %d, %v", n, err)
		}
		if n, err := c.Read(message); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after Close: %d, %v", n, err)
		}
		written <- err
	}()
	if got, err := io.ReadAll(s); err != nil || len(got) != len(message) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

func TestNewFails(t *testing.T) {
	raw := newScript()
	raw.Close()
	i, _ := results()
	if c, err := New(raw, i, Config{KeepAlive: time.Minute}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v, %v", c, err)
	}
}

// Many writers and readers of a connection at once.
func TestConcurrentUse(t *testing.T) {
	a, b := tcp(t)
	c, s := shaken(t, a, b, Config{}, Config{})
	const writers, each = 4, 200
	errs := make(chan error, 2*writers)
	for w := range writers {
		go func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for range each {
				m := bytes.Repeat([]byte{byte(w)}, 1+r.IntN(3*chunk/2))
				if _, err := c.WriteMessages([][]byte{m, m[:1]}); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 2 * writers * each {
		m, err := s.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if len(m) == 0 || bytes.Count(m, m[:1]) != len(m) {
			t.Fatalf("a mixed message of %d bytes", len(m))
		}
	}
	for range writers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// While one writer waits for the peer, and another for the first, time goes on
// for everybody else, so that users can test under synctest.
func TestWritersWaitDurably(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := piped(t)
		const writers = 3
		for range writers {
			go a.Write([]byte("hello"))
		}
		time.Sleep(time.Minute)
		buf := make([]byte, 5*writers)
		if _, err := io.ReadFull(b, buf); err != nil || string(buf) != strings.Repeat("hello", writers) {
			t.Errorf("read %q, %v", buf, err)
		}
	})
}

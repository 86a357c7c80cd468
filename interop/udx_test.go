//go:build interop

package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
)

var (
	udxBulk  = flag.Int64("udx.bulk", 64<<20, "bytes of a bulk transfer on a clean path; 1 GiB takes its time")
	udxLossy = flag.Int64("udx.lossy", 2<<20, "bytes of a transfer over a bad link; 16 MiB takes minutes")
)

// libudx are the versions that are deployed, and differ (docs/spec/udx.md §0).
var libudx = []string{"udx-native", "udx-native-1207", "udx-native-1183"}

// A goUDX is a Go socket with a Mux.
type goUDX struct {
	t    *testing.T
	conn udp.Conn
	mux  *udx.Mux
}

func newGoUDX(t *testing.T) *goUDX {
	t.Helper()
	g := &goUDX{t: t, mux: udx.NewMux(udx.Config{})}
	g.conn = g.listen()
	t.Cleanup(func() { g.mux.Close() })
	return g
}

func (g *goUDX) listen() udp.Conn {
	g.t.Helper()
	c, err := udp.Default.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		g.t.Fatal(err)
	}
	go udp.Serve(c, g.mux)
	g.t.Cleanup(func() { c.Close() })
	return c
}

func (g *goUDX) port() uint16 { return g.conn.LocalAddr().Port() }

// accept opens a stream that connects itself to whoever sends its first packet.
func (g *goUDX) accept(id, remoteID uint32) *udx.Stream {
	g.t.Helper()
	s, err := g.mux.NewStream(udx.StreamConfig{ID: id, Accept: func(s *udx.Stream, c udp.Conn, from netip.AddrPort) bool {
		s.Connect(c, remoteID, from, udx.ConnectOptions{})
		return true
	}})
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

// dial opens a stream to an address.
func (g *goUDX) dial(id, remoteID uint32, to netip.AddrPort) *udx.Stream {
	g.t.Helper()
	s := g.accept(id, remoteID)
	if err := s.Connect(g.conn, remoteID, to, udx.ConnectOptions{}); err != nil {
		g.t.Fatal(err)
	}
	return s
}

// A jsUDX is a script with a socket.
type jsUDX struct {
	*Peer
	Socket string
	Port   uint16
}

func newJSUDX(t *testing.T, version string) *jsUDX {
	t.Helper()
	js := &jsUDX{Peer: StartJS(t, "udx.js", version)}
	var bound struct {
		Socket string
		Port   uint16
	}
	js.Must("bind", nil, &bound)
	js.Socket, js.Port = bound.Socket, bound.Port
	return js
}

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
}

func (js *jsUDX) addr() netip.AddrPort { return loopback(js.Port) }

// open runs "create" or "accept".
func (js *jsUDX) open(method string, args Args) *Stream {
	args["socket"] = js.Socket
	var made struct{ Stream string }
	js.Must(method, args, &made)
	return js.Stream(made.Stream)
}

// sum reads s to its end.
func sum(s io.Reader) (Hex, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, s)
	return h.Sum(nil), n, err
}

// converse sends n bytes of a pattern each way at once, ends both directions,
// and checks all of it on both sides. accepted says that the JavaScript stream
// is connected by our first packet; it cannot write before. lossy says that the
// path loses packets.
func converse(ctx context.Context, t *testing.T, s *udx.Stream, js *Stream, accepted, lossy bool, there, back int64) {
	t.Helper()
	errs := make(chan error, 3)
	go func() {
		_, err := io.Copy(struct{ io.Writer }{s}, io.LimitReader(Pattern("there"), there))
		errs <- errors.Join(err, s.CloseWrite())
	}()
	go func() {
		if accepted {
			if err := connected(ctx, js); err != nil {
				errs <- err
				return
			}
		}
		err := js.Send(ctx, "back", back)
		errs <- errors.Join(err, js.End(ctx))
	}()
	go func() {
		got, n, err := sum(s)
		if err == nil && (n != back || !bytes.Equal(got, PatternSum("back", back))) {
			err = fmt.Errorf("got %d of %d bytes, or others", n, back)
		}
		errs <- err
	}()
	r, err := js.Receive(ctx, -1)
	if err != nil || r.Bytes != there || !bytes.Equal(r.SHA256, PatternSum("there", there)) {
		t.Errorf("JavaScript got %+v, %v", r, err)
	}
	for range 3 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if r, err := js.Wait(ctx, "close"); err != nil || !r.Close || r.Error != "" {
		t.Errorf("JavaScript closed with %+v, %v", r, err)
	}
	select {
	case <-s.Done():
	case <-ctx.Done():
		t.Fatal("the Go stream does not end")
	}
	// libudx has no TIME-WAIT: if its last acknowledgement is lost, and our END
	// rode on data, we cannot know (docs/spec/udx.md §2.7).
	if s.Err() != nil && !(lossy && errors.Is(s.Err(), syscall.ETIMEDOUT)) {
		t.Errorf("the Go stream ended with %v", s.Err())
	}
}

// connected waits until a JavaScript stream knows its remote end.
func connected(ctx context.Context, js *Stream) error {
	for {
		var st struct{ RemotePort int }
		err := js.peer.Call(ctx, "stream.stats", Args{"stream": js.Handle}, &st)
		if err != nil || st.RemotePort > 0 {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func limited(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestUDXBulk: every version, each side as the one that connects, both
// directions by themselves and at once.
func TestUDXBulk(t *testing.T) {
	for _, version := range libudx {
		for _, c := range []struct {
			name        string
			there, back int64
		}{{"to JavaScript", *udxBulk, 0}, {"from JavaScript", 0, *udxBulk}, {"both ways", *udxBulk / 4, *udxBulk / 4}} {
			t.Run(version+"/"+c.name, func(t *testing.T) {
				ctx := limited(t, 10*time.Minute)
				g, js := newGoUDX(t), newJSUDX(t, version)
				var s *udx.Stream
				var peer *Stream
				if c.there > 0 {
					peer = js.open("accept", Args{"id": 22, "remoteId": 11})
					s = g.dial(11, 22, js.addr())
				} else {
					s = g.accept(11, 22)
					peer = js.open("create", Args{"id": 22, "remoteId": 11, "port": g.port()})
				}
				start := time.Now()
				converse(ctx, t, s, peer, c.there > 0, false, c.there, c.back)
				took := time.Since(start)
				t.Logf("%.0f MB/s %+v", float64(c.there+c.back)/1e6/took.Seconds(), s.Stats())
			})
		}
	}
}

// TestUDXBadLinks: losses, delays, reordering and duplication between the two.
func TestUDXBadLinks(t *testing.T) {
	links := []Link{{Delay: 10 * time.Millisecond, Loss: 0.01, Duplicate: 0.05, Reorder: 0.05, ReorderBy: 8 * time.Millisecond}}
	for _, delay := range []time.Duration{10 * time.Millisecond, 100 * time.Millisecond} {
		for _, loss := range []float64{0.002, 0.02, 0.1} {
			links = append(links, Link{Delay: delay, Loss: loss})
		}
	}
	for i, link := range links {
		link.Seed = uint64(i)
		name := fmt.Sprintf("rtt %v, loss %.1f %%", 2*link.Delay, 100*link.Loss)
		if link.Reorder > 0 {
			name += ", disorder"
		}
		for _, toJS := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/to JavaScript %v", name, toJS), func(t *testing.T) {
				t.Parallel()
				ctx := limited(t, 10*time.Minute)
				g, js := newGoUDX(t), newJSUDX(t, libudx[0])
				there, back := *udxLossy, int64(1000)
				if !toJS {
					there, back = back, there
				}
				proxy := NewProxy(t, js.addr(), link)
				peer := js.open("accept", Args{"id": 22, "remoteId": 11})
				s := g.dial(11, 22, proxy.Addr())
				start := time.Now()
				converse(ctx, t, s, peer, true, true, there, back)
				took := time.Since(start)
				a, b := proxy.Stats()
				t.Logf("%v, %.2f MB/s %+v; link %+v %+v", took, float64(there+back)/1e6/took.Seconds(), s.Stats(), a, b)
			})
		}
	}
}

// TestUDXEnds: half-close, DESTROY and their errors, both ways.
func TestUDXEnds(t *testing.T) {
	for _, version := range libudx {
		t.Run(version, func(t *testing.T) {
			ctx := limited(t, time.Minute)
			g, js := newGoUDX(t), newJSUDX(t, version)
			next := uint32(100)
			pair := func() (*udx.Stream, *Stream) {
				next += 2
				peer := js.open("accept", Args{"id": next + 1, "remoteId": next})
				s := g.dial(next, next+1, js.addr())
				if _, err := s.Write([]byte("hi")); err != nil {
					t.Fatal(err)
				}
				if b, err := peer.Read(ctx, 2); string(b) != "hi" || err != nil {
					t.Fatalf("%q, %v", b, err)
				}
				return s, peer
			}

			// Our end first; theirs may follow much later.
			s, peer := pair()
			s.CloseWrite()
			if _, err := peer.Wait(ctx, "end"); err != nil {
				t.Error(err)
			}
			if err := peer.Write(ctx, []byte("late answer")); err != nil {
				t.Error(err)
			}
			peer.End(ctx)
			if b, err := io.ReadAll(s); string(b) != "late answer" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			if r, err := peer.Wait(ctx, "close"); err != nil || r.Error != "" {
				t.Errorf("%+v, %v", r, err)
			}
			<-s.Done()

			// Theirs first.
			s, peer = pair()
			peer.End(ctx)
			if b, err := io.ReadAll(s); len(b) > 0 || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			s.Write([]byte("bye"))
			s.Close()
			if r, err := peer.Receive(ctx, -1); err != nil || r.Bytes != 5 {
				t.Errorf("%+v, %v", r, err)
			}
			if r, err := peer.Wait(ctx, "close"); err != nil || r.Error != "" {
				t.Errorf("%+v, %v", r, err)
			}
			<-s.Done()
			if s.Err() != nil {
				t.Error(s.Err())
			}

			// They destroy.
			s, peer = pair()
			peer.Destroy(ctx)
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("Read: %v", err)
			}

			// We destroy.
			s, peer = pair()
			s.Destroy(nil)
			if r, err := peer.Wait(ctx, "close"); err != nil || r.Error != "ECONNRESET" {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// TestUDXMessages: unordered messages and heartbeats.
func TestUDXMessages(t *testing.T) {
	for _, version := range libudx {
		t.Run(version, func(t *testing.T) {
			ctx := limited(t, time.Minute)
			g, js := newGoUDX(t), newJSUDX(t, version)
			peer := js.open("accept", Args{"id": 22, "remoteId": 11})
			s := g.dial(11, 22, js.addr())
			s.ReceiveMessages()
			for _, m := range []string{"one", "two"} {
				if err := s.SendMessage([]byte(m)); err != nil {
					t.Fatal(err)
				}
				var e struct{ Data Hex }
				if err := js.Event(ctx, "stream-message", &e); err != nil || string(e.Data) != m {
					t.Errorf("message %q, %v; want %q", e.Data, err, m)
				}
			}
			js.Must("stream.message", Args{"stream": peer.Handle, "data": Hex("three")}, nil)
			b := make([]byte, 100)
			if n, err := s.ReadMessage(b); string(b[:n]) != "three" || err != nil {
				t.Errorf("message %q, %v", b[:n], err)
			}
			if version == "udx-native-1183" {
				return // knows no heartbeats
			}
			before := s.Stats().PacketsReceived
			s.SetKeepAlive(20 * time.Millisecond)
			for s.Stats().PacketsReceived < before+3 {
				if ctx.Err() != nil {
					t.Fatal("heartbeats are not answered")
				}
				time.Sleep(5 * time.Millisecond)
			}
			s.SetKeepAlive(0)
			if version != libudx[0] {
				return // has no such method
			}
			js.Must("stream.keepalive", Args{"stream": peer.Handle, "ms": 20}, nil)
			before = s.Stats().PacketsReceived
			for s.Stats().PacketsReceived < before+3 {
				if ctx.Err() != nil {
					t.Fatal("no heartbeats come")
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
}

// TestUDXSlowReader: libudx stops for our closed window, probes it, and goes on.
func TestUDXSlowReader(t *testing.T) {
	for _, version := range libudx {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			ctx := limited(t, time.Minute)
			g, js := newGoUDX(t), newJSUDX(t, version)
			s := g.accept(11, 22)
			peer := js.open("create", Args{"id": 22, "remoteId": 11, "port": g.port()})
			const size = 4 << 20
			go func() {
				peer.Send(ctx, "slow", size)
				peer.End(ctx)
			}()
			time.Sleep(4 * time.Second)
			if st := s.Stats(); st.Unread < 64<<10 || st.Unread > 256<<10 {
				t.Errorf("%d bytes wait", st.Unread)
			}
			got, n, err := sum(s)
			if err != nil || n != size || !bytes.Equal(got, PatternSum("slow", size)) {
				t.Errorf("%d bytes, %v", n, err)
			}
			s.Close()
			if r, err := peer.Wait(ctx, "close"); err != nil || r.Error != "" {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// TestUDXRelays: a Go relay between two JavaScript peers, and a JavaScript relay
// between a Go peer and a JavaScript one.
func TestUDXRelays(t *testing.T) {
	t.Run("through Go", func(t *testing.T) {
		ctx := limited(t, time.Minute)
		g, a, b := newGoUDX(t), newJSUDX(t, libudx[0]), newJSUDX(t, libudx[1])
		ra, rb := g.accept(201, 101), g.accept(202, 102)
		if err := errors.Join(ra.RelayTo(rb), rb.RelayTo(ra)); err != nil {
			t.Fatal(err)
		}
		sa := a.open("create", Args{"id": 101, "remoteId": 201, "port": g.port(), "mode": "source", "bytes": 4 << 20, "seed": "relay"})
		sb := b.open("create", Args{"id": 102, "remoteId": 202, "port": g.port()})
		if err := sb.Write(ctx, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		r, err := sb.Receive(ctx, -1)
		if err != nil || !bytes.Equal(r.SHA256, PatternSum("relay", 4<<20)) {
			t.Errorf("%+v, %v", r, err)
		}
		sb.End(ctx)
		if got, err := sa.Read(ctx, 10); string(got) != "hello" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if r, err := sa.Wait(ctx, "close"); err != nil || r.Error != "" {
			t.Errorf("%+v, %v", r, err)
		}
		ra.Destroy(nil)
		<-rb.Done()
	})
	t.Run("through JavaScript", func(t *testing.T) {
		ctx := limited(t, time.Minute)
		g, r, b := newGoUDX(t), newJSUDX(t, libudx[0]), newJSUDX(t, libudx[0])
		ra := r.open("create", Args{"id": 201, "remoteId": 101, "port": g.port()})
		rb := r.open("create", Args{"id": 202, "remoteId": 102, "port": b.Port})
		r.Must("stream.relayTo", Args{"stream": ra.Handle, "to": rb.Handle}, nil)
		r.Must("stream.relayTo", Args{"stream": rb.Handle, "to": ra.Handle}, nil)
		s := g.dial(101, 201, r.addr())
		peer := b.open("create", Args{"id": 102, "remoteId": 202, "port": r.Port})
		converse(ctx, t, s, peer, false, false, 4<<20, 4<<20)
	})
}

// TestUDXPathChange: both sides move from a relay to the direct path while data
// flows (docs/spec/udx.md §2.10).
func TestUDXPathChange(t *testing.T) {
	for _, version := range libudx {
		t.Run(version, func(t *testing.T) {
			ctx := limited(t, time.Minute)
			g, r, js := newGoUDX(t), newGoUDX(t), newJSUDX(t, version)
			ra, rb := r.dial(201, 101, g.conn.LocalAddr()), r.dial(202, 102, js.addr())
			if err := errors.Join(ra.RelayTo(rb), rb.RelayTo(ra)); err != nil {
				t.Fatal(err)
			}
			s := g.dial(101, 201, r.conn.LocalAddr())
			peer := js.open("create", Args{"id": 102, "remoteId": 202, "port": r.port()})
			done := make(chan struct{})
			go func() {
				defer close(done)
				converse(ctx, t, s, peer, false, false, 32<<20, 32<<20)
			}()
			for s.Stats().BytesReceived < 1<<20 {
				time.Sleep(time.Millisecond)
			}
			changed, err := s.ChangeRemote(g.conn, 102, js.addr())
			if err != nil {
				t.Fatal(err)
			}
			js.Must("stream.changeRemote", Args{"stream": peer.Handle, "socket": js.Socket, "remoteId": 101, "port": g.port()}, nil)
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatal("our change does not complete")
			}
			through := ra.Stats().PacketsReceived
			if through == 0 {
				t.Error("nothing went through the relay")
			}
			<-done
		})
	}
}

// TestUDXNumbers: streams may begin anywhere, and wrap.
func TestUDXNumbers(t *testing.T) {
	ctx := limited(t, time.Minute)
	g, js := newGoUDX(t), newJSUDX(t, libudx[0])
	s, err := g.mux.NewStream(udx.StreamConfig{ID: 11, Seq: 0xffffff00})
	if err != nil {
		t.Fatal(err)
	}
	peer := js.open("create", Args{"id": 22, "seq": uint32(0xfffffff0)})
	js.Must("stream.connect", Args{"stream": peer.Handle, "socket": js.Socket, "remoteId": 11, "port": g.port(), "ack": uint32(0xffffff00)}, nil)
	if err := s.Connect(g.conn, 22, js.addr(), udx.ConnectOptions{Ack: 0xfffffff0}); err != nil {
		t.Fatal(err)
	}
	converse(ctx, t, s, peer, false, false, 4<<20, 4<<20)
}

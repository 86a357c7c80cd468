package udx

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// A side is one end of a scenario: a host with a socket and a Mux.
type side struct {
	host *vnet.Host
	conn udp.Conn
	mux  *Mux
}

func (s *side) addr() netip.AddrPort {
	return netip.AddrPortFrom(s.host.Addr(), s.conn.LocalAddr().Port())
}

func newSide(t testing.TB, n *vnet.Network) *side {
	t.Helper()
	s := &side{host: n.Host(), mux: NewMux(Config{})}
	s.host.SetLink(vnet.Link{})
	s.conn = s.listen(t)
	return s
}

// listen opens one more socket.
func (s *side) listen(t testing.TB) udp.Conn {
	t.Helper()
	c, err := s.host.Listen(netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	go udp.Serve(c, s.mux)
	return c
}

// world runs a scenario of two sides in virtual time. The link, one way, is a's.
func world(t *testing.T, link vnet.Link, f func(t *testing.T, n *vnet.Network, a, b *side)) {
	synctest.Test(t, func(t *testing.T) {
		n := vnet.New(1)
		a, b := newSide(t, n), newSide(t, n)
		a.host.SetLink(link)
		f(t, n, a, b)
		a.mux.Close()
		b.mux.Close()
		n.Close()
		synctest.Wait()
	})
}

// pair connects a stream of a with one of b.
func pair(t testing.TB, a, b *side) (*Stream, *Stream) {
	t.Helper()
	x, err := a.mux.NewStream(StreamConfig{})
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.mux.NewStream(StreamConfig{})
	if err != nil {
		t.Fatal(err)
	}
	connect(t, x, a.conn, y, b.addr())
	connect(t, y, b.conn, x, a.addr())
	return x, y
}

func connect(t testing.TB, s *Stream, conn udp.Conn, peer *Stream, at netip.AddrPort) {
	t.Helper()
	if err := s.Connect(conn, peer.ID(), at, ConnectOptions{}); err != nil {
		t.Fatal(err)
	}
}

// pattern returns n bytes that differ by position and seed.
func pattern(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	r.Read(b)
	return b
}

// expect reads until EOF and compares.
func expect(s *Stream, want []byte) error {
	got, err := io.ReadAll(s)
	if err != nil {
		return err
	}
	if string(got) != string(want) {
		return errors.New("bytes differ from what was sent")
	}
	return nil
}

func TestTransferOverLinks(t *testing.T) {
	for _, c := range []struct {
		name  string
		link  vnet.Link
		size  int
		limit time.Duration
	}{
		{"clean", vnet.Link{Latency: 10 * time.Millisecond}, 4 << 20, 5 * time.Second},
		{"loss 0.2%", vnet.Link{Latency: 10 * time.Millisecond, Loss: 0.002}, 4 << 20, 5 * time.Second},
		{"loss 2%", vnet.Link{Latency: 10 * time.Millisecond, Loss: 0.02}, 4 << 20, 10 * time.Second},
		{"loss 10%", vnet.Link{Latency: 10 * time.Millisecond, Loss: 0.1}, 4 << 20, 20 * time.Second},
		{"far 2%", vnet.Link{Latency: 100 * time.Millisecond, Loss: 0.02}, 4 << 20, 20 * time.Second},
		{"far 10%", vnet.Link{Latency: 100 * time.Millisecond, Loss: 0.1}, 4 << 20, 60 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			world(t, c.link, func(t *testing.T, n *vnet.Network, a, b *side) {
				x, y := pair(t, a, b)
				there, back := pattern(1, c.size), pattern(2, c.size/4)
				start := time.Now()
				errs := make(chan error, 4)
				for _, e := range []struct {
					s         *Stream
					out, want []byte
				}{{x, there, back}, {y, back, there}} {
					go func() {
						_, err := e.s.Write(e.out)
						errs <- errors.Join(err, e.s.CloseWrite())
					}()
					go func() { errs <- expect(e.s, e.want) }()
				}
				for range 4 {
					if err := <-errs; err != nil {
						t.Error(err)
					}
				}
				<-x.Done()
				<-y.Done()
				took := time.Since(start)
				t.Logf("%v, %.2f MB/s; a %+v", took, float64(c.size)/1e6/took.Seconds(), x.Stats())
				if took > c.limit {
					t.Errorf("took %v, more than %v", took, c.limit)
				}
				if x.Err() != nil || y.Err() != nil {
					t.Errorf("ended with %v and %v", x.Err(), y.Err())
				}
			})
		})
	}
}

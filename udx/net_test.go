package udx

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"

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

package relay

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/warren-dht/warren/internal/vectors"
	"github.com/warren-dht/warren/noise"
	"github.com/warren-dht/warren/protomux"
	"github.com/warren-dht/warren/secretstream"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
	"github.com/warren-dht/warren/vnet"
)

// A machine is a host with a socket and a mux of UDX streams.
type machine struct {
	host *vnet.Host
	conn udp.Conn
	mux  *udx.Mux
}

func (m *machine) addr() netip.AddrPort {
	return netip.AddrPortFrom(m.host.Addr(), m.conn.LocalAddr().Port())
}

// A world is a relay and what it takes to be its client.
type world struct {
	t      *testing.T
	net    *vnet.Network
	relay  *machine
	server *Server
	all    []*machine
}

// inWorld runs f in virtual time.
func inWorld(t *testing.T, cfg Config, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: vnet.New(1)}
		w.relay = w.machine()
		cfg.NewStream = w.relay.mux.NewStream
		w.server = NewServer(cfg)
		f(t, w)
		w.server.Close()
		for _, m := range w.all {
			m.mux.Close()
		}
		w.net.Close()
		synctest.Wait()
		if st := w.server.Stats(); st.Sessions.Active+st.Pairings.Pending+st.Pairings.Active+st.Streams.Active+len(w.server.sources) != 0 {
			t.Errorf("at the end: %+v", st)
		}
	})
}

func (w *world) machine() *machine {
	m := &machine{host: w.net.Host(), mux: udx.NewMux(udx.Config{})}
	m.host.SetLink(vnet.Link{})
	var err error
	if m.conn, err = m.host.Listen(netip.AddrPort{}); err != nil {
		w.t.Fatal(err)
	}
	go udp.Serve(m.conn, m.mux)
	w.all = append(w.all, m)
	return m
}

// join connects two new streams.
func (w *world) join(a, b *machine) (x, y *udx.Stream) {
	x, err1 := a.mux.NewStream(udx.StreamConfig{})
	y, err2 := b.mux.NewStream(udx.StreamConfig{})
	if err := errors.Join(err1, err2); err != nil {
		w.t.Fatal(err)
	}
	err1 = x.Connect(a.conn, y.ID(), b.addr(), udx.ConnectOptions{})
	err2 = y.Connect(b.conn, x.ID(), a.addr(), udx.ConnectOptions{})
	if err := errors.Join(err1, err2); err != nil {
		w.t.Fatal(err)
	}
	return x, y
}

// A peer is a client of the relay.
type peer struct {
	*machine
	*Client
	control *protomux.Mux
	session *Session // at the relay
}

// connect makes a machine a client, whose address the relay takes for source.
func (w *world) connect(m *machine, source netip.Addr) *peer {
	w.t.Helper()
	i := noise.Result{Initiator: true, PublicKey: noise.GenerateKeyPair().Public, RemotePublicKey: noise.GenerateKeyPair().Public}
	rand.Read(i.Tx[:])
	rand.Read(i.Rx[:])
	rand.Read(i.Hash[:])
	r := noise.Result{Tx: i.Rx, Rx: i.Tx, Hash: i.Hash, PublicKey: i.RemotePublicKey, RemotePublicKey: i.PublicKey}
	x, y := w.join(m, w.relay)
	near, err1 := secretstream.New(x, i, secretstream.Config{})
	far, err2 := secretstream.New(y, r, secretstream.Config{MaxMessage: MaxMessage})
	if err := errors.Join(err1, err2); err != nil {
		w.t.Fatal(err)
	}
	p := &peer{machine: m, control: protomux.New(near)}
	mux := protomux.New(far)
	id := i.PublicKey
	var err error
	if p.session, err = w.server.Accept(mux, id[:], source); err != nil {
		w.t.Fatal(err)
	}
	if p.Client, err = NewClient(p.control, id[:]); err != nil {
		w.t.Fatal(err)
	}
	go mux.Run()
	go p.control.Run()
	return p
}

// newPeer is a new machine and client.
func (w *world) newPeer() *peer {
	m := w.machine()
	return w.connect(m, m.host.Addr())
}

// offer offers a new stream and connects it when the relay answers.
func (p *peer) offer(t *testing.T, initiator bool, token Token) (*udx.Stream, error) {
	s, err := p.mux.NewStream(udx.StreamConfig{})
	if err != nil {
		return nil, err
	}
	id, err := p.Pair(t.Context(), initiator, token, s.ID())
	if err != nil {
		s.Destroy(nil)
		return nil, err
	}
	// On the socket and to the address of the connection with the relay.
	secret := p.control.Conn().(*secretstream.Conn)
	to := secret.RemoteAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
	return s, s.Connect(p.conn, id, to, udx.ConnectOptions{})
}

// pairUp makes a relayed stream between two peers.
func pairUp(t *testing.T, a, b *peer) (x, y *udx.Stream) {
	t.Helper()
	token := NewToken()
	type answer struct {
		s   *udx.Stream
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		s, err := b.offer(t, false, token)
		answers <- answer{s, err}
	}()
	x, err := a.offer(t, true, token)
	y2 := <-answers
	if err := errors.Join(err, y2.err); err != nil {
		t.Fatal(err)
	}
	return x, y2.s
}

// exchange sends both ways and ends both directions.
func exchange(t *testing.T, x, y *udx.Stream) {
	t.Helper()
	const size = 100_000
	for _, s := range []*udx.Stream{x, y} {
		go func() {
			if _, err := s.Write(make([]byte, size)); err != nil {
				t.Error(err)
			}
			s.CloseWrite()
		}()
	}
	for _, s := range []*udx.Stream{x, y} {
		if b, err := io.ReadAll(s); err != nil || len(b) != size {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
}

// loadLoosely is vectors.Load for a list whose elements have fields of several
// shapes: those that do not fit are left out.
func loadLoosely(t testing.TB, name string, v any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectors.Root(t), "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var mismatch *json.UnmarshalTypeError
	if err := json.Unmarshal(b, v); err != nil && !errors.As(err, &mismatch) {
		t.Fatal(err)
	}
}

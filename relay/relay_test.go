package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/internal/vectors"
	"github.com/warren-dht/warren/protomux"
	"github.com/warren-dht/warren/udx"
)

type hx = vectors.Hex

type messageVector struct {
	Message     string
	Type        int
	IsInitiator bool
	Token       hx
	ID          uint32
	Seq         uint64
	Encoded     hx
}

// messageVectors collects what the vector files have of the relay's messages:
// blind_relay of secretstream.json, and of hyperdht-connect.json the kinds
// blindRelayPair and blindRelayUnpair.
func messageVectors(t testing.TB) []messageVector {
	var a struct {
		BlindRelay []messageVector `json:"blind_relay"`
	}
	vectors.Load(t, "secretstream.json", &a)
	var b struct {
		Vectors []struct {
			Kind   string
			Fields struct {
				IsInitiator bool
				Token       hx
				ID          uint32
				Seq         uint64
			}
			Hex hx
		}
	}
	all := a.BlindRelay
	n := len(all)
	// The other kinds have fields of other types.
	loadLoosely(t, "hyperdht-connect.json", &b)
	for _, v := range b.Vectors {
		m := messageVector{IsInitiator: v.Fields.IsInitiator, Token: v.Fields.Token, ID: v.Fields.ID, Seq: v.Fields.Seq, Encoded: v.Hex}
		switch v.Kind {
		case "blindRelayPair":
			m.Message, m.Type = "pair", typePair
		case "blindRelayUnpair":
			m.Message, m.Type = "unpair", typeUnpair
		default:
			continue
		}
		all = append(all, m)
	}
	if n == 0 || len(all) == n {
		t.Fatal("vectors are missing")
	}
	return all
}

func TestMessageVectors(t *testing.T) {
	for _, v := range messageVectors(t) {
		switch v.Message {
		case "pair":
			want := pairMessage{v.IsInitiator, Token(v.Token), v.ID, v.Seq}
			if got := want.Append(nil); !bytes.Equal(got, v.Encoded) || v.Type != typePair {
				t.Errorf("%+v is %x, want %x", want, got, v.Encoded)
			}
			if got, err := parsePair(v.Encoded); err != nil || got != want {
				t.Errorf("%x is %+v, %v, want %+v", v.Encoded, got, err, want)
			}
			for i := range v.Encoded {
				if got, err := parsePair(v.Encoded[:i]); err == nil {
					t.Errorf("%x is %+v", v.Encoded[:i], got)
				}
			}
		case "unpair":
			if got := appendUnpair(nil, Token(v.Token)); !bytes.Equal(got, v.Encoded) || v.Type != typeUnpair {
				t.Errorf("unpair of %x is %x, want %x", v.Token, got, v.Encoded)
			}
			if got, err := parseUnpair(v.Encoded); err != nil || got != Token(v.Token) {
				t.Errorf("%x is for %x, %v", v.Encoded, got, err)
			}
			for i := range v.Encoded {
				if got, err := parseUnpair(v.Encoded[:i]); err == nil {
					t.Errorf("%x is %x", v.Encoded[:i], got)
				}
			}
		default:
			t.Errorf("unknown message %q", v.Message)
		}
	}
}

func TestParsePairTolerates(t *testing.T) {
	want := pairMessage{initiator: true, token: Token{1}, id: 5, seq: 0}
	tail := want.Append(nil)[1:]
	for _, flags := range [][]byte{{1}, {0x83}, {0xfd, 1, 0}, {0xfe, 1, 2, 3, 4}, {0xff, 1, 0, 0, 0, 0, 0, 0, 0xff}} {
		b := append(append(append([]byte{}, flags...), tail...), 9, 9) // and bytes behind
		if got, err := parsePair(b); err != nil || got != want {
			t.Errorf("%x is %+v, %v", b, got, err)
		}
	}
	long := append(pairMessage{}.Append(nil)[:33], 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 0)
	if got, err := parsePair(long); err == nil {
		t.Errorf("a stream id of 33 bits: %+v", got)
	}
}

func TestRelay(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		a, b := w.newPeer(), w.newPeer()
		x, y := pairUp(t, a, b)
		exchange(t, x, y)
		if x.RemoteAddr().String() != w.relay.addr().String() {
			t.Errorf("not through the relay but %v", x.RemoteAddr())
		}
		st := w.server.Stats()
		if st.Sessions.Accepted != 2 || st.Sessions.Opened != 2 || st.Sessions.Active != 2 ||
			st.Pairings.Requested != 2 || st.Pairings.Matched != 1 || st.Pairings.Active != 1 || st.Pairings.Pending != 0 ||
			st.Streams.Opened != 2 || st.Streams.Active != 2 {
			t.Errorf("%+v", st)
		}
		// Nothing passes any more: the relay forgets the pair in two minutes.
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if st := w.server.Stats(); st.Pairings.Active != 0 || st.Streams.Active != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// One side's DESTROY reaches the other through the relay.
func TestDestroyPasses(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		a, b := w.newPeer(), w.newPeer()
		x, y := pairUp(t, a, b)
		for _, s := range []*udx.Stream{x, y} {
			if _, err := s.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		x.Destroy(nil)
		<-y.Done()
		if err := y.Err(); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		// The relay cannot tell whether a DESTROY is genuine: it waits for more.
		time.Sleep(16 * time.Second)
		synctest.Wait()
		if st := w.server.Stats(); st.Streams.Active != 0 || st.Pairings.Active != 0 || st.Streams.Errors != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// What ends a pair, and what a client sees of it.
func TestPairEnds(t *testing.T) {
	for _, e := range []struct {
		why string
		end func(a *peer, token Token)
	}{
		{"unpair", func(a *peer, token Token) { a.Unpair(token) }},
		{"the client closes the channel", func(a *peer, _ Token) { a.Close() }},
		{"the client closes the connection", func(a *peer, _ Token) { a.control.Close() }},
		{"the relay closes the channel", func(a *peer, _ Token) { a.session.Close() }},
	} {
		t.Run(e.why, func(t *testing.T) {
			inWorld(t, Config{}, func(t *testing.T, w *world) {
				a, b := w.newPeer(), w.newPeer()
				token := NewToken()
				go b.offer(t, false, token)
				if _, err := a.offer(t, true, token); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				e.end(a, token)
				time.Sleep(time.Second)
				synctest.Wait()
				if st := w.server.Stats(); st.Streams.Active != 0 || st.Pairings.Active != 0 || st.Streams.Errors != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// What ends an offer that waits for its other half.
func TestOfferEnds(t *testing.T) {
	for _, e := range []struct {
		why  string
		end  func(w *world, a *peer, token Token, cancel func())
		want error
	}{
		{"its context", func(_ *world, _ *peer, _ Token, cancel func()) { cancel() }, context.Canceled},
		{"the client closes the channel", func(_ *world, a *peer, _ Token, _ func()) { a.Close() }, protomux.ErrClosed},
		{"the client closes the connection", func(_ *world, a *peer, _ Token, _ func()) { a.control.Close() }, protomux.ErrClosed},
		{"the relay closes", func(w *world, _ *peer, _ Token, _ func()) { w.server.Close() }, protomux.ErrClosed},
	} {
		t.Run(e.why, func(t *testing.T) {
			inWorld(t, Config{}, func(t *testing.T, w *world) {
				a := w.newPeer()
				token := NewToken()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				got := make(chan error, 1)
				go func() {
					_, err := a.Pair(ctx, true, token, 1)
					got <- err
				}()
				synctest.Wait()
				time.Sleep(time.Second)
				if st := w.server.Stats(); st.Pairings.Pending != 1 {
					t.Fatalf("%+v", st)
				}
				if _, err := a.Pair(ctx, true, token, 2); !errors.Is(err, ErrPairing) {
					t.Errorf("the same token again: %v", err)
				}
				e.end(w, a, token, cancel)
				if err := <-got; !errors.Is(err, e.want) {
					t.Errorf("%v, want %v", err, e.want)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if st := w.server.Stats(); st.Pairings.Pending != 0 || st.Pairings.Cancelled != 1 || len(w.server.sources) != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

func TestTimeouts(t *testing.T) {
	inWorld(t, Config{PairTimeout: 10 * time.Second, IdleTimeout: time.Minute}, func(t *testing.T, w *world) {
		a, b := w.newPeer(), w.newPeer()
		token := NewToken()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, err := a.Pair(ctx, true, token, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if st := w.server.Stats(); st.Pairings.Pending != 0 || st.Pairings.Cancelled != 1 {
			t.Errorf("%+v", st)
		}
		// a's offer ended after 10 seconds; b never made one.
		time.Sleep(31 * time.Second)
		synctest.Wait()
		select {
		case <-b.Done():
		default:
			t.Error("b is not sent away")
		}
		select {
		case <-a.Done():
			t.Error("a is sent away too early")
		default:
		}
		<-a.Done()
		<-a.session.Done()
	})
}

// A second offer for the same role is ignored; the first one stands.
func TestSameRole(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		a, b, c := w.newPeer(), w.newPeer(), w.newPeer()
		token := NewToken()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go a.offer(t, true, token)
		synctest.Wait()
		time.Sleep(100 * time.Millisecond)
		done := make(chan error, 1)
		go func() {
			_, err := c.Pair(ctx, true, token, 7)
			done <- err
		}()
		time.Sleep(100 * time.Millisecond)
		if _, err := b.offer(t, false, token); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the intruder: %v", err)
		}
		// Its unpair has not touched the others.
		if st := w.server.Stats(); st.Pairings.Active != 1 || st.Pairings.Requested != 2 {
			t.Errorf("%+v", st)
		}
	})
}

func TestQuotas(t *testing.T) {
	for _, e := range []struct {
		why    string
		cfg    Config
		active int // of two pairs, then one offer more
		refuse int
	}{
		{"no quota", Config{MaxPairs: -1, MaxPending: -1, MaxPerSession: -1, MaxPerSource: -1, PairTimeout: -1, IdleTimeout: -1}, 2, 0},
		{"pairs", Config{MaxPairs: 1}, 1, 1},
		{"per session", Config{MaxPerSession: 1}, 1, 3},
		{"per source", Config{MaxPerSource: 1}, 1, 3},
		{"pending", Config{MaxPending: 1}, 2, 0},
	} {
		t.Run(e.why, func(t *testing.T) {
			inWorld(t, e.cfg, func(t *testing.T, w *world) {
				a, b := w.newPeer(), w.newPeer()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				for range 2 {
					token := NewToken()
					go a.Pair(ctx, true, token, 1)
					time.Sleep(time.Second)
					go b.Pair(ctx, false, token, 2)
					time.Sleep(time.Second)
				}
				go a.Pair(ctx, true, NewToken(), 1)
				time.Sleep(time.Second)
				synctest.Wait()
				if st := w.server.Stats(); st.Pairings.Active != e.active || st.Pairings.Refused != e.refuse {
					t.Errorf("%+v", st)
				}
			})
		})
	}
	inWorld(t, Config{MaxPending: 1}, func(t *testing.T, w *world) {
		a := w.newPeer()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for range 3 {
			go a.Pair(ctx, true, NewToken(), 1)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if st := w.server.Stats(); st.Pairings.Pending != 1 || st.Pairings.Refused != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// Who holds most of the waiting offers gives way to a newcomer.
func TestCrowdedRelay(t *testing.T) {
	inWorld(t, Config{MaxPending: 4}, func(t *testing.T, w *world) {
		crowd, a, b := w.newPeer(), w.newPeer(), w.newPeer()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for range 4 {
			go crowd.Pair(ctx, true, NewToken(), 1)
		}
		time.Sleep(time.Second)
		x, y := pairUp(t, a, b)
		exchange(t, x, y)
		if st := w.server.Stats(); st.Pairings.Pending != 3 || st.Pairings.Cancelled != 1 || st.Pairings.Refused != 0 {
			t.Errorf("%+v", st)
		}
		for range 4 { // one finds room, the others would only change places
			go b.Pair(ctx, true, NewToken(), 1)
		}
		time.Sleep(time.Second)
		if st := w.server.Stats(); st.Pairings.Pending != 4 {
			t.Errorf("%+v", st)
		}
	})
}

// The relay sends to nobody but its clients: packets for its stream must come
// from the host that the client's connection comes from.
func TestForeignSource(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		m := w.machine()
		a, b := w.connect(m, netip.MustParseAddr("203.0.113.9")), w.newPeer()
		x, y := pairUp(t, a, b)
		for _, s := range []*udx.Stream{x, y} {
			if _, err := s.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
		y.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := y.Read(make([]byte, 10)); err == nil {
			t.Errorf("%d bytes from a foreign source", n)
		}
	})
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		a, b := w.connect(w.machine(), netip.Addr{}), w.connect(w.machine(), netip.Addr{})
		x, y := pairUp(t, a, b)
		exchange(t, x, y)
	})
}

// A client that moves keeps its pairs: the relay follows its connection, and its
// quota goes with it.
func TestClientMoves(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		a, b := w.newPeer(), w.newPeer()
		x, y := pairUp(t, a, b)
		hello := func() {
			t.Helper()
			go y.Write([]byte("hello"))
			x.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadFull(x, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
		}
		x.Write([]byte("hello")) // the relay learns where x is
		hello()
		old := a.addr()
		for _, to := range []netip.Addr{netip.MustParseAddr("8.0.0.1"), old.Addr()} {
			a.host.Move(w.net.Segment, to)
			a.session.Moved(w.relay.conn, a.addr())
			hello()
			w.server.mu.Lock()
			if n := w.server.sources[to]; n != 1 || len(w.server.sources) != 2 {
				t.Errorf("%v has %d of the offers %v", to, n, w.server.sources)
			}
			w.server.mu.Unlock()
		}
	})
}

func TestRelayWithoutProtocol(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		a := w.newPeer()
		// Another id is another channel, which the relay does not have.
		c, err := NewClient(a.control, []byte("somebody else"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Pair(t.Context(), true, Token{}, 1); !errors.Is(err, protomux.ErrRejected) {
			t.Error(err)
		}
		<-c.Done()
		w.server.Close()
		if _, err := w.server.Accept(protomux.New(nil), nil, netip.Addr{}); !errors.Is(err, ErrServerClosed) {
			t.Error(err)
		}
	})
}

// No stream to be had: the pair comes to nothing, and leaves nothing.
func TestNoStreams(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		made := 0
		w.server.cfg.NewStream = func(cfg udx.StreamConfig) (*udx.Stream, error) {
			if made++; made == 2 {
				return nil, errors.New("none left")
			}
			return w.relay.mux.NewStream(cfg)
		}
		a, b := w.newPeer(), w.newPeer()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		token := NewToken()
		go a.Pair(ctx, true, token, 1)
		if _, err := b.Pair(ctx, false, token, 2); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		synctest.Wait()
		if st := w.server.Stats(); st.Streams.Active != 0 || st.Pairings.Active+st.Pairings.Pending != 0 || st.Pairings.Cancelled != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func FuzzParsePair(f *testing.F) {
	for _, v := range messageVectors(f) {
		f.Add([]byte(v.Encoded))
	}
	f.Add([]byte{0xfd, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parsePair(b); err == nil {
			if again, err := parsePair(m.Append(nil)); err != nil || again != m {
				t.Fatalf("%+v is read again as %+v, %v", m, again, err)
			}
		}
		if token, err := parseUnpair(b); err == nil {
			if again, err := parseUnpair(appendUnpair(nil, token)); err != nil || again != token {
				t.Fatalf("%x is read again as %x, %v", token, again, err)
			}
		}
	})
}

package relay

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/protomux"
	"github.com/warren-dht/warren/udx"
)

// nowhere is a stream that takes everything and gives nothing.
type nowhere struct{ closed chan struct{} }

func (n nowhere) ReadMessage() ([]byte, error) {
	<-n.closed
	return nil, net.ErrClosed
}
func (n nowhere) WriteMessages(m [][]byte) (int, error) { return len(m), nil }
func (n nowhere) CloseWrite() error                     { return nil }
func (n nowhere) Close() error {
	select {
	case <-n.closed:
	default:
		close(n.closed)
	}
	return nil
}

// checkBooks checks what the server knows about itself and its sessions, the
// closed ones included: their pairs may need a moment to end.
func checkBooks(t *testing.T, s *Server, sessions []*Session) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	sources := make(map[netip.Addr]int)
	for _, c := range sessions {
		if n := len(c.offers); n > s.cfg.MaxPerSession {
			t.Fatalf("%d offers of a session", n)
		}
		for o := range c.offers {
			if c.source.IsValid() {
				sources[c.source]++
			}
			if o.session != c || o.pairing.offers[o.role] != o {
				t.Fatal("an offer is in the wrong hands")
			}
			if !o.pairing.matched && s.pending[o.pairing.token] != o.pairing {
				t.Fatal("an offer waits for nothing")
			}
		}
	}
	if len(sources) != len(s.sources) {
		t.Fatalf("sources %v, counted %v", sources, s.sources)
	}
	for a, n := range sources {
		if s.sources[a] != n || n > s.cfg.MaxPerSource {
			t.Fatalf("%d offers of %v, counted %d", n, a, s.sources[a])
		}
	}
	for token, p := range s.pending {
		if p.token != token || p.matched || (p.offers[0] == nil) == (p.offers[1] == nil) {
			t.Fatal("a pending pairing has not one offer")
		}
	}
	if len(s.pending) > s.cfg.MaxPending || s.stats.Pairings.Active > s.cfg.MaxPairs {
		t.Fatalf("%d pending, %d active", len(s.pending), s.stats.Pairings.Active)
	}
}

// Clients say whatever they like, come and go; the relay keeps its books and its
// quotas, and in the end nothing is left.
func FuzzServer(f *testing.F) {
	f.Add([]byte{0x00, 0x11, 0x20, 0x31})
	f.Add([]byte{0x00, 0x08, 0x01, 0x09, 0x40, 0x52, 0x60, 0x00, 0x19, 0x73})
	f.Add([]byte{0x80, 0x84, 0x02, 0x12, 0x22, 0x0a, 0x1a, 0x2a, 0xa0, 0x60})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 200 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			mux := udx.NewMux(udx.Config{})
			s := NewServer(Config{NewStream: mux.NewStream, MaxPairs: 3, MaxPending: 3, MaxPerSession: 3, MaxPerSource: 4})
			var sessions []*Session
			defer func() {
				for _, c := range sessions {
					c.channel.Mux().Close()
				}
				mux.Close()
				synctest.Wait()
			}()
			accept := func(i int) {
				m := protomux.New(nowhere{make(chan struct{})})
				go m.Run()
				c, err := s.Accept(m, []byte{byte(i)}, netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i%2)}))
				if err != nil {
					t.Fatal(err)
				}
				sessions = append(sessions, c)
			}
			for i := range 4 {
				accept(i)
			}
			for _, op := range ops {
				i := int(op >> 4 & 3)
				c := sessions[len(sessions)-4+i]
				token := Token{op & 7}
				switch op >> 6 {
				case 0, 1:
					c.pair(nil, pairMessage{initiator: op&8 != 0, token: token, id: uint32(op)}.Append(nil))
				case 2:
					if op&8 != 0 {
						c.unpair(nil, appendUnpair(nil, token))
						break
					}
					c.Close()
					for i := range 4 {
						accept(i)
					}
				case 3:
					if op&8 != 0 {
						time.Sleep(time.Duration(op&7) * 10 * time.Second)
						break
					}
					s.mu.Lock()
					var end *udx.Stream
					for o := range c.offers {
						end = o.stream
					}
					s.mu.Unlock()
					if end != nil {
						end.Destroy(nil)
					}
				}
				checkBooks(t, s, sessions)
				synctest.Wait()
				checkBooks(t, s, sessions)
			}
			s.Close()
			synctest.Wait()
			if st := s.Stats(); st.Sessions.Active+st.Pairings.Active+st.Pairings.Pending+st.Streams.Active+len(s.sources)+len(s.sessions) != 0 {
				t.Errorf("%+v", st)
			}
		})
	})
}

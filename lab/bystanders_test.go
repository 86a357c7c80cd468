package lab

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// 200 handshakes that name blind relays make a server connect to none of them,
// unless its application allows that; then to few at once.
func TestNamedRelaysAreNotDialed(t *testing.T) {
	for _, allow := range []bool{false, true} {
		for _, open := range []bool{false, true} {
			inBubble(t, dhtSize, func(w *world) {
				cfg := hyperdht.Config{Firewalled: isFalse()}
				host := w.Internet.Host()
				if !open {
					cfg, host = hyperdht.Config{}, w.Internet.NAT(vnet.Cone).Host()
				}
				server := w.join(host, cfg)
				var asked atomic.Int64
				lc := hyperdht.ListenConfig{}
				if allow {
					lc.AllowRelay = func(in hyperdht.Incoming) bool { asked.Add(1); return !in.RelayThrough.IsZero() }
				}
				l := w.serve(server, lc)
				a := w.attacker()
				most := uint64(0)
				for i := range 200 {
					h := a.shakeThrough(l.PublicKey(), 0, hyperdht.GenerateKeyPair().Public)
					a.tell(l.Relays()[1+i%(len(l.Relays())-1)], peerHandshake, h.key, h.message(fromClient, none, none))
					s := server.Stats()
					most = max(most, s.RelayAttempts-s.RelayAborts)
				}
				time.Sleep(time.Minute)
				s := server.Stats()
				switch {
				case !allow && (s.Dials != 0 || s.RelayAttempts != 0):
					w.t.Errorf("%d dials, %d attempts to come to a relay", s.Dials, s.RelayAttempts)
				case allow && (asked.Load() < 100 || s.Dials == 0 || s.Dials > 20 || most > 4):
					// For clients of one network there are four a second, and the
					// whole takes some two.
					w.t.Errorf("asked %d times; %d dials, %d at once", asked.Load(), s.Dials, most)
				}
			})
		}
	}
}

// Punch messages make a server send nothing to others than their sender, however
// they are made and however often they are sent again: to no other host, and not
// to other ports of the sender's host either.
func TestPunchMessagesBotherNobody(t *testing.T) {
	inBubble(t, dhtSize, func(w *world) {
		server := w.join(houses[2].host(w.Internet), hyperdht.Config{})
		l := w.serve(server, hyperdht.ListenConfig{})
		s := w.stranger()
		a := w.attacker()
		neighbour := w.listener(a.host)
		relays := l.Relays()
		for class := range uint64(4) {
			for _, remote := range []bool{false, true} {
				h := a.shake(l.PublicKey(), 0)
				r, err := a.ask(relays[0], peerHandshake, h.key, h.message(fromClient, none, none))
				if err != nil {
					w.t.Fatal(err)
				}
				h.finish(w.t, r)
				p := punch{firewall: class, addresses: []netip.AddrPort{neighbour.addr, s.addr}, token: &[32]byte{1}}
				if class == 3 {
					p.addresses = []netip.AddrPort{netip.AddrPortFrom(s.addr.Addr(), 0)}
				}
				for round := range uint64(3) {
					p.round, p.punching = round, round > 0
					m := h.punch(fromClient, p, h.self[0])
					r, err := a.ask(h.relays[0], peerHolepunch, h.key, m)
					if err != nil {
						break
					}
					var addrs []netip.AddrPort
					if p.remoteToken, addrs = h.answer(w.t, r); remote && len(addrs) > 0 {
						p.remote = addrs[0]
					}
					// And again, as the sender and as somebody else.
					for i := range 60 {
						a.tell(h.relays[i%len(h.relays)], peerHolepunch, h.key, m)
						for j, relay := range w.Nodes {
							if relay.RPC().PublicAddr() != h.relays[i%len(h.relays)] {
								continue
							}
							forged := m[:len(m)-6] // the peer's address comes last
							forged = append(append([]byte{}, forged...), m[len(m)-6:]...)
							put(forged[len(forged)-6:], [...]netip.AddrPort{neighbour.addr, s.addr}[(i+j)%2])
							forged[1] = fromRelay
							(&attacker{t: w.t, rpc: relay.RPC()}).tell(h.self[i%len(h.self)], peerHolepunch, h.key, forged)
						}
					}
				}
				time.Sleep(20 * time.Second)
			}
		}
		if n := s.heard.Load(); n != 0 {
			w.t.Errorf("a stranger has heard %d datagrams", n)
		}
		if n := neighbour.heard.Load(); n != 0 {
			w.t.Errorf("another program of the sender's host has heard %d datagrams", n)
		}
		if st := server.Stats(); st.Replays < 500 {
			w.t.Errorf("only %d replays were noticed", st.Replays)
		}
		// All is well.
		c := w.join(w.Internet.NAT(vnet.Cone).Host(), hyperdht.Config{})
		conn, _, err := w.dial(c, l.PublicKey())
		if err != nil {
			w.t.Fatal(err)
		}
		talk(w.t, conn, 100, time.Second)
	})
}

// put writes an address as messages have it.
func put(b []byte, a netip.AddrPort) {
	ip := a.Addr().As4()
	copy(b, ip[:])
	b[4], b[5] = byte(a.Port()), byte(a.Port()>>8)
}

// listener is a stranger that is a program on a host: it counts what its socket
// hears.
func (w *world) listener(h *vnet.Host) *stranger {
	w.t.Helper()
	conn, err := h.Listen(netip.AddrPort{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	s := &stranger{addr: netip.AddrPortFrom(h.Addr(), conn.LocalAddr().Port())}
	go udp.Serve(conn, s)
	return s
}

func (s *stranger) HandleBatch(_ udp.Conn, batch []udp.Datagram) []udp.Datagram {
	s.heard.Add(int64(len(batch)))
	return nil
}

// A client whose round trips take two seconds connects, although servers wait
// for its next step for three.
func TestSlowClients(t *testing.T) {
	for _, server := range houses[:4] {
		t.Run(server.name, func(t *testing.T) {
			inBubble(t, dhtSize, func(w *world) {
				l := w.serve(w.join(server.host(w.Internet), server.cfg), hyperdht.ListenConfig{})
				home := w.Internet.NAT(vnet.Cone)
				home.SetUplink(vnet.Link{Latency: 980 * time.Millisecond, Hops: 10})
				client := w.join(home.Host(), hyperdht.Config{})
				conn, took, err := w.dial(client, l.PublicKey())
				if err != nil {
					w.t.Fatal(err)
				}
				w.t.Logf("%v after %v", conn.Path().Kind, took)
				talk(w.t, conn, 1000, 20*time.Second)
				conn.Close()
			})
		})
	}
}

package lab

import (
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// Bounds of what an attack may cost a server above idle.
const (
	maxSockets = 512
	maxMemory  = 64 << 20
)

// heap is the memory in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// A server that many hosts flood with handshakes, each as valid as an honest
// client's and going on to punch, keeps within its bounds and serves honest
// clients meanwhile.
func TestHandshakeFlood(t *testing.T) {
	cone := houses[3]
	for _, c := range []struct {
		name   string
		server func(*vnet.Network) *vnet.Host
		cfg    hyperdht.Config
		punch  bool  // the attackers go on to punch
		honest house // where honest clients are
	}{
		{"open", func(n *vnet.Network) *vnet.Host { return n.Host() }, hyperdht.Config{Firewalled: isFalse()}, false, cone},
		{"cone", behind(vnet.Cone), hyperdht.Config{}, true, cone},
		// The one random punch at a time is taken by whoever comes first, as
		// in the reference.
		{"symmetric", behind(vnet.Symmetric), hyperdht.Config{}, true, houses[0]},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, dhtSize, func(w *world) {
				node := w.join(c.server(w.Internet), c.cfg)
				l := w.serve(node, hyperdht.ListenConfig{})
				attackers := make([]*attacker, 6)
				for i := range attackers {
					attackers[i] = w.attacker()
				}
				idle := heap()
				var flood sync.WaitGroup
				for _, a := range attackers {
					flood.Go(func() {
						for i := range 400 { // in twenty seconds
							flood.Go(func() { a.flood(l, i, c.punch) })
							time.Sleep(50 * time.Millisecond)
						}
					})
				}
				end := time.Now().Add(20 * time.Second)
				for i := 0; time.Now().Before(end); i++ {
					time.Sleep(time.Second)
					s := node.Stats()
					if n := s.SocketsAdded - s.SocketsRemoved; n > maxSockets {
						w.t.Errorf("%d sockets are open", n)
					}
					if n := heap() - idle; n > maxMemory {
						w.t.Errorf("%d MB more than when idle", n>>20)
					}
					client := w.join(c.honest.host(w.Internet), c.honest.cfg)
					conn, took, err := w.dial(client, l.PublicKey())
					if err != nil {
						w.t.Errorf("an honest client: %v", err)
					} else {
						talk(w.t, conn, 1000, 5*time.Second)
						if took > 5*time.Second {
							w.t.Errorf("an honest client had to wait for %v", took)
						}
						conn.Close()
					}
					client.Close()
				}
				flood.Wait()
				time.Sleep(time.Minute)
				s := node.Stats()
				w.t.Logf("%d handshakes limited, %d sockets opened", s.Limited, s.SocketsAdded)
				if n := s.SocketsAdded - s.SocketsRemoved; n != 0 || s.Handshakes != 0 {
					w.t.Errorf("%d sockets and %d handshakes are left", n, s.Handshakes)
				}
			})
		})
	}
}

// flood makes a handshake and, if the server punches, says that it is about to
// punch too, from an address of our choice.
func (a *attacker) flood(l *echo, i int, punching bool) {
	relays := l.Relays()
	if len(relays) == 0 {
		return
	}
	h := a.shake(l.PublicKey(), 0)
	r, err := a.ask(relays[i%len(relays)], peerHandshake, h.key, h.message(fromClient, none, none))
	if err != nil || r.Value == nil || !punching {
		return
	}
	h.finish(a.t, r)
	if len(h.relays) == 0 {
		return
	}
	p := punch{firewall: 2 + uint64(i%2), addresses: []netip.AddrPort{netip.AddrPortFrom(a.host.Addr(), 9)}, token: &[32]byte{7}}
	for round := range uint64(3) {
		p.round, p.punching = round, round > 0
		r, err := a.ask(h.relays[int(round)%len(h.relays)], peerHolepunch, h.key, h.punch(fromClient, p, h.self[int(round)%len(h.relays)]))
		if err != nil {
			return
		}
		p.remoteToken, _ = h.answer(a.t, r)
	}
}

// What a client has sent, sent again by somebody who has listened, leads to no
// other connection: not at once, and not later. Nor does a first message that
// its sender has never followed up.
func TestReplayedHandshake(t *testing.T) {
	inBubble(t, dhtSize, func(w *world) {
		server := w.join(w.Internet.Host(), hyperdht.Config{Firewalled: isFalse()})
		l := w.serve(server, hyperdht.ListenConfig{})
		tape := &recorder{Host: w.Internet.Host()}
		cfg := hyperdht.Config{Network: tape, Firewalled: isFalse()}
		client := w.Join(cfg)
		conn, _, err := w.dial(client, l.PublicKey())
		if err != nil {
			w.t.Fatal(err)
		}
		talk(w.t, conn, 1000, time.Second)
		conn.Close()
		client.Close()
		<-l.accepted

		a := w.attacker()
		h := a.shake(l.PublicKey(), 1)
		victim := w.stranger()
		from, err := a.host.Listen(netip.AddrPort{})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, pause := range []time.Duration{0, time.Second, 20 * time.Second, 5 * time.Minute} {
			time.Sleep(pause)
			if n := tape.play(from); n < 10 {
				w.t.Fatalf("only %d datagrams are on the tape", n)
			}
			for _, relay := range l.Relays() {
				a.tell(relay, peerHandshake, h.key, h.message(fromClient, none, none))
				a.tell(relay, peerHandshake, h.key, h.message(fromRelay, victim.addr, none))
			}
		}
		time.Sleep(time.Minute)
		if n := len(l.accepted); n != 0 {
			w.t.Errorf("%d connections were accepted", n)
		}
		if n := victim.heard.Load(); n != 0 {
			w.t.Errorf("a stranger has heard %d datagrams", n)
		}
		if s := server.Stats(); s.Replays == 0 {
			w.t.Error("no replay was noticed")
		}
	})
}

// A recorder is a host whose datagrams are recorded as they leave.
type recorder struct {
	*vnet.Host
	mu   sync.Mutex
	tape []udp.Datagram
}

func (r *recorder) Listen(addr netip.AddrPort) (udp.Conn, error) {
	c, err := r.Host.Listen(addr)
	return recorded{c, r}, err
}

// play sends everything again and returns how much that is.
func (r *recorder) play(from udp.Conn) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.tape {
		from.WriteBatch(r.tape[i : i+1])
	}
	return len(r.tape)
}

type recorded struct {
	udp.Conn
	r *recorder
}

func (c recorded) WriteBatch(b []udp.Datagram) (int, error) {
	c.r.mu.Lock()
	for _, d := range b {
		d.Payload = slices.Clone(d.Payload)
		c.r.tape = append(c.r.tape, d)
	}
	c.r.mu.Unlock()
	return c.Conn.WriteBatch(b)
}

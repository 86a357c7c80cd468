package lab

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// Forged handshakes, 2,000 a second through the relays of the server and each for
// a client of its own, keep nobody out: ten of ten honest clients connect, half
// of them within a second.
func TestForgedHandshakesThroughRelays(t *testing.T) {
	for _, open := range []bool{true, false} {
		t.Run(map[bool]string{true: "open", false: "firewalled"}[open], func(t *testing.T) {
			inBubble(t, dhtSize, func(w *world) {
				server, l := w.floodable(open)
				self, relays := w.seenAt(server, l)
				w.flood(server, l, 2000, func(h *handshake, i int) {
					// A relay believes what a datagram says of its source.
					relay := &attacker{t: w.t, rpc: relays[i%len(relays)].RPC()}
					relay.tell(self, peerHandshake, h.key, h.message(fromRelay, forged(i), none))
				})
			})
		})
	}
}

// Forged handshakes straight at the server, 6,000 a second and each from an address
// of its own, cost it no more than its bounds, and keep nobody out.
func TestForgedDirectHandshakes(t *testing.T) {
	for _, open := range []bool{true, false} {
		t.Run(map[bool]string{true: "open", false: "firewalled"}[open], func(t *testing.T) {
			inBubble(t, dhtSize, func(w *world) {
				server, l := w.floodable(open)
				self, _ := w.seenAt(server, l)
				conns := make([]udp.Conn, 2000) // an address takes a host here
				for i := range conns {
					var err error
					if conns[i], err = w.Internet.Host(forged(i).Addr()).Listen(netip.AddrPort{}); err != nil {
						t.Fatal(err)
					}
				}
				w.flood(server, l, 6000, func(h *handshake, i int) {
					b := request(self, peerHandshake, h.key, h.message(fromClient, none, none))
					conns[i%len(conns)].WriteBatch([]udp.Datagram{{Payload: b, Peer: self}})
				})
				for _, c := range conns {
					c.Close()
				}
			})
		})
	}
}

// forged is an address in a network of its own.
func forged(i int) netip.AddrPort {
	var ip [4]byte
	binary.BigEndian.PutUint32(ip[:], uint32(i)*2654435761) // all over the place
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, ip[0], ip[1], ip[2]}), 1000)
}

// floodable starts a server that a host which sends to it unasked can reach.
func (w *world) floodable(open bool) (*hyperdht.Node, *echo) {
	w.t.Helper()
	h := houses[0]
	if !open {
		h = houses[2] // lets everybody in
	}
	n := w.join(h.host(w.Internet), h.cfg)
	return n, w.serve(n, hyperdht.ListenConfig{})
}

// seenAt is where the relays see a server, and its relays.
func (w *world) seenAt(server *hyperdht.Node, l *echo) (self netip.AddrPort, relays []*hyperdht.Node) {
	w.t.Helper()
	for _, n := range w.Nodes {
		if slices.Contains(l.Relays(), n.RPC().PublicAddr()) {
			relays = append(relays, n)
		}
	}
	if len(relays) < 2 {
		w.t.Fatalf("%d relays", len(relays))
	}
	if !server.RPC().Firewalled() {
		return server.RPC().PublicAddr(), relays
	}
	a := w.attacker()
	h := a.shake(l.PublicKey(), 0)
	r, err := a.ask(relays[0].RPC().PublicAddr(), peerHandshake, h.key, h.message(fromClient, none, none))
	if err != nil {
		w.t.Fatal(err)
	}
	h.finish(w.t, r)
	return h.self[0], relays
}

// flood sends so many forged handshakes a second for ten seconds, while honest
// clients connect one after the other, and checks what that does to both.
func (w *world) flood(server *hyperdht.Node, l *echo, rate int, send func(h *handshake, i int)) {
	w.t.Helper()
	a := w.attacker()
	pool := make([]*handshake, 3000)
	for i := range pool {
		pool[i] = a.shake(l.PublicKey(), 0)
	}
	time.Sleep(20 * time.Second) // what came before is forgotten
	idle, goroutines := heap(), runtime.NumGoroutine()
	var sent atomic.Int64
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			go send(pool[i%len(pool)], i)
			sent.Add(1)
			time.Sleep(time.Duration(rand.ExpFloat64() * float64(time.Second) / float64(rate)))
		}
	}()
	time.Sleep(time.Second)
	var took []time.Duration
	for range 10 {
		client := w.join(w.Internet.NAT(vnet.Cone).Host(), hyperdht.Config{})
		conn, d, err := w.dial(client, l.PublicKey())
		if err != nil {
			w.t.Errorf("an honest client: %v", err)
		} else {
			took = append(took, d)
			talk(w.t, conn, 1000, 5*time.Second)
			conn.Close()
		}
		client.Close()
		if n := server.Stats().Handshakes; n > hyperdht.DefaultMaxHandshakes*5/4 {
			w.t.Errorf("%d handshakes are in progress", n)
		}
		if n := runtime.NumGoroutine() - goroutines; n > 5000 {
			w.t.Errorf("%d goroutines more than when idle", n)
		}
		if n := heap() - idle; n > maxMemory {
			w.t.Errorf("%d MB more than when idle", n>>20)
		}
	}
	close(stop)
	<-over
	slices.Sort(took)
	if len(took) > 0 && took[len(took)/2] > time.Second {
		w.t.Errorf("honest clients took %v", took)
	}
	s := server.Stats()
	w.t.Logf("%d sent, %d had to give way or were refused; honest clients took %v", sent.Load(), s.Limited, took)
	if s.Limited < uint64(sent.Load())/10 {
		w.t.Errorf("only %d of %d were limited", s.Limited, sent.Load())
	}
	time.Sleep(30 * time.Second)
	if s := server.Stats(); s.Handshakes != 0 || s.SocketsAdded != s.SocketsRemoved {
		w.t.Errorf("%d handshakes and %d sockets are left", s.Handshakes, s.SocketsAdded-s.SocketsRemoved)
	}
}

package attacks

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
)

// Handshakes from forged addresses that name blind relays do not make a server
// connect to them. Each names a relay of its own that the server does not know.
func TestForcedDials(t *testing.T) {
	need(t)
	const handshakes, perSecond = 200, 50
	for _, firewalled := range []string{"true", "false"} {
		t.Run("firewalled="+firewalled, func(t *testing.T) {
			// A dial begins with a look-up, which the DHT nodes see.
			var mu sync.Mutex
			strangers := map[[32]byte]bool{} // targets; true: the server has asked for it
			requests := 0
			w := newNetwork(t, 20, func(int) udp.Network {
				watched := newWire()
				watched.in = func(_ udp.Conn, d udp.Datagram) bool {
					if d.Peer.Addr().String() != serverHost {
						return true
					}
					command, target, _, ok := parseRequest(d.Payload)
					if !ok || target == nil || command != findPeer && command != peerHandshake {
						return true
					}
					mu.Lock()
					defer mu.Unlock()
					if _, known := strangers[*target]; known {
						strangers[*target] = true
						requests++
					}
					return true
				}
				return watched
			})
			s := start(t, "listening", "listen", "--echo", "--firewalled="+firewalled, "--bootstrap", w.boot[0])
			to := w.forwarders(w.join("7.255.0.1", nil), s.key)
			f := newForger(t)
			me := hyperdht.GenerateKeyPair()
			target := [32]byte(hyperdht.TargetOf(s.key))
			every(perSecond, handshakes/perSecond*time.Second, nil, func(i int) {
				relay := hyperdht.GenerateKeyPair().Public
				mu.Lock()
				strangers[[32]byte(hyperdht.TargetOf(relay))] = false
				mu.Unlock()
				h := shake(t, s.key, me, clientHello{relayThrough: &relay})
				to := to[i%len(to)]
				r := request{tid: uint16(i), to: to, command: peerHandshake, target: &target, value: handshakeValue(h.first)}
				f.send(netip.AddrFrom4([4]byte{9, 1, byte(i), 1}), to, r.bytes())
			})
			time.Sleep(2 * time.Second)
			mu.Lock()
			dialed := 0
			for _, asked := range strangers {
				if asked {
					dialed++
				}
			}
			asked, named := requests, len(strangers)
			mu.Unlock()
			result(t, dialed == 0, "handshakes that name a relay, firewalled="+firewalled, "0 dials", "%d dials for %d handshakes, %d DHT requests",
				dialed, named, asked)
			w.serves(t, s)
		})
	}
}

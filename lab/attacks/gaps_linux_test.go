package attacks

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
)

// Packets of one byte behind a gap cost a server no more than twice what was sent,
// and it does not keep them for long.
func TestOneByteBehindAGap(t *testing.T) {
	need(t)
	const (
		conns   = 1000
		hosts   = 20
		packets = 460
		size    = packetHeader + 1
		onWire  = size + 28 // with the headers of IP and UDP; 22.5 MB in all
		slack   = 16 << 20
	)
	w := newNetwork(t, 8, nil)
	s := start(t, "listening", "listen", "--echo", "--firewalled=false", "--bootstrap", w.boot[0], "--metrics", metricsAt)
	attackers := make([]*tapped, hosts)
	clients := make([]*hyperdht.Node, hosts)
	for i := range hosts {
		attackers[i] = newTapped()
		clients[i] = w.join(netip.AddrFrom4([4]byte{8, byte(i), 0, 1}).String(), func(c *hyperdht.Config) {
			open(c)
			c.Network = attackers[i]
			c.KeepAlive = -1 // a keep-alive would fill the gap
		})
	}
	var mu sync.Mutex
	var open []*hyperdht.Conn
	var failed atomic.Int64
	end := time.Now().Add(40 * time.Second)
	parallelBy(16, conns, func(i int) {
		if time.Now().After(end) {
			return
		}
		c, err := dial(t, clients[i%hosts], s.key, 5*time.Second)
		if err != nil {
			failed.Add(1)
			return
		}
		mu.Lock()
		open = append(open, c)
		mu.Unlock()
	})
	if len(open) == 0 {
		t.Fatal("no connection was accepted")
	}
	time.Sleep(time.Second)
	idleHeap := s.heap()
	idle := s.resetPeak()

	// The packets leave the clients' own sockets, a round for each packet.
	var sent int64
	flows := make([][]flow, hosts)
	for i, a := range attackers {
		flows[i] = a.all()
	}
	for k := range packets {
		parallelBy(2, hosts, func(i int) {
			var batch []udp.Datagram
			for _, f := range flows[i] {
				p := packet{flags: isData, id: f.id, seq: f.next + 1 + uint32(k), ack: f.ack, payload: []byte{42}}
				batch = append(batch, udp.Datagram{Payload: p.bytes(), Peer: f.to})
			}
			for len(batch) > 0 {
				m, err := flows[i][0].from.WriteBatch(batch)
				if err != nil || m == 0 {
					return
				}
				batch = batch[m:]
			}
			atomic.AddInt64(&sent, int64(len(flows[i])))
		})
		time.Sleep(10 * time.Millisecond) // for the server's socket
	}
	peak := s.settledPeak(10 * time.Second)
	growth := peak - idle
	bytes := sent * onWire
	// What came from a connection that was refused counts as sent, too.
	result(t, growth <= 2*bytes+slack, "one-byte packets behind a gap", "2 times what was sent, and 16 MiB",
		"+%s for %s on %d connections (%s when idle)", MB(growth), MB(bytes), len(open), MB(idle))

	begun := time.Now()
	var left int64
	for {
		left = s.heap() - idleHeap
		if left < slack || time.Since(begun) > 40*time.Second {
			break
		}
		time.Sleep(time.Second)
	}
	result(t, left < slack, "one-byte packets behind a gap: released", "+16 MiB of heap within 40 s", "+%s of heap after %v",
		MB(left), time.Since(begun).Round(time.Second))
}

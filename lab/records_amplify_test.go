package lab

import (
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
)

// Commands that draw values (docs/spec/hyperdht-records.md §2).
const (
	lookup       = 3
	immutableGet = 9
)

// Requests for large records whose source is forged do not make a node send its
// owner's network more than its bytes a second beyond four times what they had.
// Those who receive there get all they ask for meanwhile.
func TestRecordsDoNotAmplify(t *testing.T) {
	inBubble(t, dhtSize, func(w *world) {
		a := w.join(w.Internet.Host(), hyperdht.Config{})
		value := make([]byte, 1000)
		value[0] = 1
		s, err := a.ImmutablePut(w.t.Context(), value, hyperdht.PutOptions{})
		if err != nil {
			w.t.Fatal(err)
		}
		topic := hyperdht.Hash([]byte("topic"))
		for range 20 {
			if _, err := a.Announce(w.t.Context(), topic, hyperdht.SignerOf(hyperdht.GenerateKeyPair()), hyperdht.AnnounceOptions{}); err != nil {
				w.t.Fatal(err)
			}
		}
		const seconds, perSecond = 20, 1000
		for command, target := range map[byte]hyperdht.Target{immutableGet: s.Target, lookup: topic} {
			tap := w.tap()
			sent := 0
			began := time.Now()
			for range seconds * perSecond / 10 {
				for range 10 { // of one node
					to := s.Nodes[0].Addr
					b := append([]byte{0x03, 8, 7, 0}, compact.AppendAddr(nil, to)...)
					b = append(append(b, command), target[:]...)
					tap.conn.WriteBatch([]udp.Datagram{{Payload: b, Peer: to}})
					sent += len(b)
				}
				time.Sleep(10 * time.Second / perSecond)
			}
			time.Sleep(time.Second)
			took := time.Since(began).Seconds()
			got := int(tap.got.Load())
			excess := got - 4*sent
			t.Logf("command %d: %d bytes draw %d in %d datagrams, %.1f times", command, sent, got, tap.datagrams.Load(), float64(got)/float64(sent))
			if most := int(64<<10*took) + 8*64<<10; excess > most || got == 0 {
				w.t.Errorf("command %d: %d bytes beyond four times the requests, want at most %d", command, excess, most)
			}
		}

		// A client in the very network from which the requests seem to come, while
		// they do, reads the record from those nodes.
		victim := w.Internet.Host()
		ip := victim.Addr().As4()
		ip[3] = 77
		forger, err := w.Internet.Segment.Host(netip.AddrFrom4(ip)).Listen(netip.AddrPort{})
		if err != nil {
			w.t.Fatal(err)
		}
		defer forger.Close()
		client := w.join(victim, hyperdht.Config{})
		for range 5000 {
			for _, n := range s.Nodes {
				b := append([]byte{0x03, 8, 7, 0}, compact.AppendAddr(nil, n.Addr)...)
				b = append(append(b, immutableGet), s.Target[:]...)
				forger.WriteBatch([]udp.Datagram{{Payload: b, Peer: n.Addr}})
			}
			time.Sleep(500 * time.Microsecond)
		}
		began := time.Now()
		got, err := client.ImmutableGet(w.t.Context(), s.Target)
		if err != nil || len(got.Value) != len(value) {
			w.t.Errorf("the record is not found: %v", err)
		}
		if d := time.Since(began); d > 500*time.Millisecond {
			w.t.Errorf("the record is found after %v", d)
		}
		found := 0
		for _, err := range client.Lookup(w.t.Context(), topic) {
			if err != nil {
				w.t.Error(err)
				break
			}
			found++
		}
		if found < 20 {
			w.t.Errorf("%d peers of the topic are found", found)
		}
	})
}

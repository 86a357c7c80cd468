package attacks

import (
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
)

// Requests from one source that has shown no token, such as a forged one, draw no
// more than four times their bytes in the long run.
func TestAmplification(t *testing.T) {
	need(t)
	const (
		perSecond = 5000
		long      = 5 * time.Second
		factor    = 4
		// What a source may get above that: a limit by rate lets some through.
		free = int64(64<<10) * int64(long/time.Second+1)
	)
	w := newNetwork(t, 8, nil)
	s := start(t, "persistent", "node", "--ephemeral=false", "--firewalled=false", "--port", "49737", "--bootstrap", w.boot[0])
	value, target := record(1, 1, 900)
	if !newStorer(t, "7.6.0.1", s.addr).put(value, target) {
		t.Fatal("the record is not stored")
	}
	topic := hyperdht.Target{1, 2, 3}
	for i := range 20 {
		signer := hyperdht.SignerOf(hyperdht.GenerateKeyPair())
		client := w.join(netip.AddrFrom4([4]byte{7, 7, byte(i), 1}).String(), nil)
		if _, err := client.Announce(t.Context(), topic, signer, hyperdht.AnnounceOptions{Relays: []netip.AddrPort{s.addr, s.addr, s.addr}}); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range []struct {
		name    string
		command uint64
		target  [32]byte
	}{{"IMMUTABLE_GET", immutableGet, target}, {"LOOKUP", lookup, topic}} {
		t.Run(c.name, func(t *testing.T) {
			probe := newRequester(t, netip.AddrPortFrom(netip.AddrFrom4([4]byte{7, 8, byte(i), 1}), 4000).String(), nil)
			m, ok := probe.ask(request{to: s.addr, command: c.command, target: &c.target})
			if !ok {
				t.Fatal("the node does not answer")
			}
			if m.value == nil { // only with a token
				m, _ = probe.ask(request{to: s.addr, command: c.command, target: &c.target, token: m.token})
			}
			if len(m.value) < 500 {
				t.Fatalf("the node has %d bytes to send", len(m.value))
			}
			victim := bind(t, netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, 7, byte(i), 1}), 5000).String(), nil)
			every(perSecond, long, nil, func(n int) {
				victim.send(s.addr, request{tid: uint16(n), to: s.addr, command: c.command, target: &c.target}.bytes())
			})
			time.Sleep(300 * time.Millisecond)
			in, out := victim.bytesIn.Load(), victim.out.Load()
			result(t, in <= factor*out+free, "amplification by "+c.name, "4 times, and 64 KiB a second", "%s for %s: %.1f times", MB(in), MB(out), victim.factor())
		})
	}
}

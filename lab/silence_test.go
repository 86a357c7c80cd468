package lab

import (
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
)

// Nodes that have entered the tables of a network and fall silent, all at once, do
// not hold look-ups up for long: half a minute later they take as long as before,
// also for a client that has just come, and learns of the silent from others.
func TestSilentNodes(t *testing.T) {
	var hosts []netip.Addr
	for i := range 200 {
		hosts = append(hosts, netip.AddrFrom4([4]byte{110, byte(i), 0, 1}))
	}
	size, perHost := 40, 200
	if raceEnabled {
		size, hosts, perHost = 24, hosts[:80], 80
	}
	for _, c := range []struct {
		name  string
		addrs []netip.Addr
		ports int
		quiet bool // nobody looks anything up meanwhile
	}{
		{"of one host", []netip.Addr{netip.MustParseAddr("8.0.0.1")}, perHost, false},
		{"of one host, which nobody asks", []netip.Addr{netip.MustParseAddr("8.0.0.1")}, perHost, true},
		{"of many hosts", hosts, 1, false},
		{"of many hosts, which nobody asks", hosts, 1, true},
		{"of a private network", []netip.Addr{netip.MustParseAddr("10.0.0.1")}, perHost, false},
		{"of a private network, which nobody asks", []netip.Addr{netip.MustParseAddr("10.0.0.1")}, perHost, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, size, func(w *world) {
				client := w.join(w.Internet.Host(), hyperdht.Config{})
				calm := w.survey(client, nil, 10)
				evil := w.sybil(c.addrs, c.ports)
				evil.enter(400)
				all, most := evil.inTables()
				if all < 3*size {
					w.t.Errorf("%d of the attacker's nodes in the tables: the test does not test", all)
				}
				w.survey(client, evil, 10)
				evil.silent.Store(true)
				began := time.Now()
				if !c.quiet {
					first := w.survey(client, evil, 1)
					t.Logf("at once: %v", first)
				}
				for time.Since(began) < 30*time.Second {
					time.Sleep(2 * time.Second)
					if !c.quiet {
						w.survey(client, evil, 1)
					}
				}
				left, _ := evil.inTables()
				if c.quiet { // nor did the client notice yet
					t.Logf("at once: %v", w.survey(client, evil, 2))
					time.Sleep(5 * time.Second)
				}
				after := w.survey(client, evil, 10)
				fresh := w.survey(w.join(w.Internet.Host(), hyperdht.Config{}), evil, 10)
				for _, s := range []survey{after, fresh} {
					if s.median() > 2*calm.median() || s.durations[len(s.durations)-1] > 2*time.Second {
						t.Errorf("look-ups: %v", s)
					}
				}
				if left > all/5 {
					t.Errorf("%d of %d silent nodes are still in the tables", left, all)
				}
				t.Logf("%d in the tables, %d in one, half a minute later %d\nbefore: %v\nafter: %v\nfresh: %v", all, most, left, calm, after, fresh)
			})
		})
	}
}

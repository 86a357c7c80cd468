package attacks

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
)

// One host with many ports does not own look-ups: records that are put are found
// again, and servers can be reached.
func TestEclipse(t *testing.T) {
	need(t)
	ports := 1000
	if *full {
		ports = 4000
	}
	const honest, records, servers = 100, 40, 10
	w := newNetwork(t, honest, nil)
	putter, getter := w.join("6.0.0.1", nil), w.join("6.9.0.1", nil)
	before := find(t, putter, 20)
	s := newSybils(t, ports)
	s.enter(w, 2)
	in, all := s.inTables(w)
	t.Logf("%d of %d entries of the honest tables are sybils", in, all)

	what := fmt.Sprintf("one address with %d ports, %d honest nodes", ports, honest)
	found := find(t, putter, 40)
	const places = 40 * dhtrpc.K
	result(t, 10*found.sybils <= places && 10*found.closest >= 9*places, what+": the closest", "10 % of the places, 90 % taken",
		"%d of %d, %d places, %d of 40 look-ups wholly, p50 %v (%v undisturbed)",
		found.sybils, found.closest, places, found.owned, median(found.took), median(before.took))

	var lost, failed atomic.Int64
	parallelBy(4, records, func(i int) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		stored, err := putter.ImmutablePut(ctx, fmt.Appendf(nil, "record %d", i), hyperdht.PutOptions{})
		if err != nil {
			failed.Add(1)
			return
		}
		if _, err := getter.ImmutableGet(ctx, stored.Target); err != nil {
			lost.Add(1)
		}
	})
	result(t, lost.Load()+failed.Load() == 0, what+": records", "0 lost", "%d of %d lost, %d not stored", lost.Load(), records, failed.Load())

	var reached atomic.Int64
	host := w.join("6.8.0.1", nil)
	parallelBy(2, servers, func(int) {
		kp := hyperdht.GenerateKeyPair()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		l, err := host.Listen(ctx, hyperdht.ListenConfig{KeyPair: &kp})
		if err != nil {
			return
		}
		defer l.Close()
		go func() {
			for {
				if _, err := l.AcceptConn(ctx); err != nil {
					return
				}
			}
		}()
		if c, err := dial(t, getter, kp.Public, 12*time.Second); err == nil {
			reached.Add(1)
			c.Close()
		}
	})
	result(t, reached.Load() == servers, what+": servers", "10 of 10 found", "%d of %d found", reached.Load(), servers)
}

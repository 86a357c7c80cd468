package attacks

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
)

// maxGrowth is how much more memory a server may use under a flood than before.
const maxGrowth = 64 << 20

// First messages of handshakes from forged source addresses, each as valid as an
// honest client's, do not shut out honest clients: neither those that come through
// the server's forwarders nor those that come straight. Memory and goroutines stay
// bounded.
func TestForgedHandshakes(t *testing.T) {
	need(t)
	for round, c := range []struct {
		name       string
		firewalled string
		rate       int
		direct     bool
	}{
		{"through the forwarders of a firewalled server", "true", 2000, false},
		{"through the forwarders of an open server", "false", 2000, false},
		{"direct", "true", 6000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newNetwork(t, 20, nil)
			s := start(t, "listening", "listen", "--echo", "--firewalled="+c.firewalled, "--bootstrap", w.boot[0], "--metrics", metricsAt)
			to := []netip.AddrPort{s.addr}
			if !c.direct {
				to = w.forwarders(w.join("7.255.0.1", nil), s.key)
			}
			long := 6 * time.Second
			if *full {
				long = 25 * time.Second
			}
			// The attacker can make them beforehand, or on more machines than one. What
			// a server has displaced it takes for new when it comes again.
			size := c.rate * int(long.Seconds())
			if !*full {
				size = min(size, 12_000)
			}
			pool := shakes(t, size, s.key, clientHello{})
			if took, err := w.honest(round*10, 3, s.key, 8*time.Second); len(took) < 3 {
				t.Fatalf("before the attack %d of 3 dials succeed: %v", len(took), err)
			}

			f := newForger(t)
			target := [32]byte(hyperdht.TargetOf(s.key))
			before := s.resetPeak()
			stop, stopped := make(chan struct{}), make(chan struct{})
			var sent atomic.Int64
			go func() {
				defer close(stopped)
				every(c.rate, time.Hour, stop, func(i int) {
					to := to[i%len(to)]
					r := request{tid: uint16(i), to: to, command: peerHandshake, target: &target, value: handshakeValue(pool[i%len(pool)])}
					f.send(netip.AddrFrom4([4]byte{9, byte(i >> 16), byte(i >> 8), byte(i)}), to, r.bytes())
					sent.Add(1)
				})
			}()
			begun := time.Now()
			goroutines := make(chan float64, 1)
			go func() {
				peak := 0.0
				for {
					if n, ok := s.metric("go_goroutines"); ok {
						peak = max(peak, n)
					}
					select {
					case <-stop:
						goroutines <- peak
						return
					case <-time.After(500 * time.Millisecond):
					}
				}
			}()
			time.Sleep(2 * time.Second)
			const dials = 10
			took, err := w.honest(round*10+1, dials, s.key, 6*time.Second)
			if rest := long - time.Since(begun); rest > 0 {
				time.Sleep(rest)
			}
			close(stop)
			<-stopped
			during := time.Since(begun)
			_, peak := s.memory()
			what := "forged handshakes, " + c.name
			result(t, len(took) == dials, what+": honest dials", "10 of 10", "%d of %d, p50 %v (%d a second sent), last error %v",
				len(took), dials, median(took), int(float64(sent.Load())/during.Seconds()), err)
			result(t, peak-before <= maxGrowth, what+": memory", "+64 MiB", "+%s, %.0f goroutines", MB(peak-before), <-goroutines)
			if t.Failed() {
				return // it may still be busy
			}
			if took, err := w.honest(round*10+2, 3, s.key, 8*time.Second); len(took) < 3 {
				t.Errorf("after the attack %d of 3 dials succeed: %v", len(took), err)
			}
		})
	}
}

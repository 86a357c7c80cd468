package udx

import (
	"io"
	"testing"
	"time"

	"github.com/warren-dht/warren/vnet"
)

// TestBottlenecks: the narrow links of workload W10. Goodput must be near the
// link's rate, and little must be sent again.
func TestBottlenecks(t *testing.T) {
	for _, c := range []struct {
		name   string
		link   vnet.Link
		size   int
		use    float64 // of the link's rate, at least
		resent float64 // of the packets, at most
	}{
		{"50 Mbit/s 40 ms", vnet.Link{Latency: 20 * ms, Rate: 6_250_000, Queue: 250_000}, 40e6, 0.933, 0.01},
		{"50 Mbit/s 40 ms 1 % loss", vnet.Link{Latency: 20 * ms, Rate: 6_250_000, Queue: 250_000, Loss: 0.01}, 25e6, 0.867, 0.025},
		{"10 Mbit/s 100 ms shallow queue", vnet.Link{Latency: 50 * ms, Rate: 1_250_000, Queue: 30_000}, 8e6, 0.9, 0.045},
	} {
		t.Run(c.name, func(t *testing.T) {
			world(t, c.link, func(t *testing.T, n *vnet.Network, a, b *side) {
				a.host.SetLinks(c.link, c.link)
				x, y := pair(t, a, b)
				start := time.Now()
				go func() {
					x.Write(make([]byte, c.size))
					x.CloseWrite()
				}()
				io.Copy(io.Discard, y)
				took := time.Since(start)
				s := x.Stats()
				rate, again := float64(c.size)/took.Seconds(), float64(s.Retransmits)/float64(s.PacketsSent)
				t.Logf("%.2f MB/s, %.1f %% sent again, %+v; net %+v", rate/1e6, 100*again, s, n.Stats())
				if rate < c.use*float64(c.link.Rate) {
					t.Errorf("%.2f MB/s", rate/1e6)
				}
				if again > c.resent {
					t.Errorf("%.1f %% sent again", 100*again)
				}
			})
		})
	}
}

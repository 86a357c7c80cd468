package udx

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/udp"
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

// TestMoveToAnotherPath: a stream soon makes use of the path that it was moved
// to, be it ten times faster and nearer, or slower and farther.
func TestMoveToAnotherPath(t *testing.T) {
	near := vnet.Link{Latency: 10 * ms, Rate: 12_500_000, Queue: 250_000}
	far := vnet.Link{Latency: 100 * ms, Rate: 1_250_000, Queue: 125_000}
	for _, c := range []struct {
		name     string
		from, to vnet.Link
	}{{"nearer", far, near}, {"farther", near, far}} {
		t.Run(c.name, func(t *testing.T) {
			world(t, c.from, func(t *testing.T, n *vnet.Network, a, b *side) {
				a.host.SetLinks(c.from, c.from)
				x, y := pair(t, a, b)
				y.accept = func(*Stream, udp.Conn, netip.AddrPort) bool { return true }
				go func() {
					for {
						if _, err := x.Write(make([]byte, 64<<10)); err != nil {
							return
						}
					}
				}()
				go io.Copy(io.Discard, y)
				time.Sleep(5 * time.Second)
				a.host.SetLinks(c.to, c.to)
				x.ChangeRemote(a.listen(t), y.ID(), b.addr())
				time.Sleep(time.Second)
				before, sent := y.Stats().BytesReceived, x.Stats()
				time.Sleep(4 * time.Second)
				rate := float64(y.Stats().BytesReceived-before) / 4
				s := x.Stats()
				again := float64(s.Retransmits-sent.Retransmits) / float64(s.PacketsSent-sent.PacketsSent)
				t.Logf("%.2f MB/s, %.1f %% sent again", rate/1e6, 100*again)
				if rate < 0.9*float64(c.to.Rate) {
					t.Errorf("%.2f MB/s", rate/1e6)
				}
			})
		})
	}
}

// TestFairShares: of two streams on one bottleneck, with a queue of one
// bandwidth-delay product, neither gets less than a quarter in a minute, whichever
// was there first.
func TestFairShares(t *testing.T) {
	for _, late := range []time.Duration{0, 3 * time.Second} {
		t.Run(late.String(), func(t *testing.T) {
			link := vnet.Link{Latency: 50 * ms, Rate: 1_250_000, Queue: 125_000}
			world(t, link, func(t *testing.T, n *vnet.Network, a, b *side) {
				a.host.SetLinks(link, link)
				var received [2]func() uint64
				for i := range received {
					x, y := pair(t, a, b)
					received[i] = func() uint64 { return y.Stats().BytesReceived }
					go func() {
						time.Sleep(time.Duration(i) * late)
						for {
							if _, err := x.Write(make([]byte, 64<<10)); err != nil {
								return
							}
						}
					}()
					go io.Copy(io.Discard, y)
				}
				time.Sleep(time.Minute)
				first, second := float64(received[0]()), float64(received[1]())
				t.Logf("%.2f and %.2f MB/s", first/60e6, second/60e6)
				if share := min(first, second) / (first + second); share < 0.25 {
					t.Errorf("share %.2f", share)
				}
				if use := (first + second) / 60; use < 0.93*float64(link.Rate) {
					t.Errorf("%.2f MB/s together", use/1e6)
				}
			})
		})
	}
}

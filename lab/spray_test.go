package lab

import (
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// A punch is a datagram of one byte that anybody can send. Whoever sprays them
// over the ports of somebody who dials is not taken for the peer for long, at
// whatever moment they come and even if he lives in the peer's house.
func TestSprayedPunches(t *testing.T) {
	fullCone := with(vnet.Cone, func(c *vnet.NAT) { c.Filtering = nat.EndpointIndependentFiltering })
	for _, server := range houses {
		if server.open() {
			continue
		}
		for _, where := range []string{"elsewhere", "next to the server"} {
			t.Run(server.name+", a sprayer "+where, func(t *testing.T) {
				inBubble(t, dhtSize, func(w *world) {
					home := server.host(w.Internet)
					sprayer := w.Internet.Host()
					if where != "elsewhere" {
						sprayer = home
					}
					l := w.serve(w.join(home, server.cfg), hyperdht.ListenConfig{})
					router := w.Internet.NAT(fullCone)
					c := w.join(router.Host(), hyperdht.Config{})
					stop := spray(t, sprayer, router.External())
					defer stop()
					conn, took, err := w.dial(c, l.PublicKey())
					if err != nil {
						t.Fatalf("after %v: %v", took, err)
					}
					within := 1500 * time.Millisecond
					if server.symmetric() {
						within = 20 * time.Second
					}
					if took > within {
						t.Errorf("%v: took %v, want %v", conn.Path(), took, within)
					}
					talk(t, conn, 10_000, 5*time.Second)
				})
			})
		}
	}
}

// spray sends a byte to each of the first ports that a host uses, from many
// ports of its own, every few milliseconds, until stop is called.
func spray(t *testing.T, from *vnet.Host, to netip.Addr) (stop func()) {
	t.Helper()
	var conns []udp.Conn
	for range 4 {
		conn, err := from.Listen(netip.AddrPort{})
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	done, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(3 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
				batch := make([]udp.Datagram, 64)
				for port := range batch {
					batch[port] = udp.Datagram{Payload: []byte{0}, Peer: netip.AddrPortFrom(to, uint16(49150+port))}
				}
				conns[i%len(conns)].WriteBatch(batch)
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-over
		for _, c := range conns {
			c.Close()
		}
	}
}

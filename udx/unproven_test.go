package udx

import (
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/vnet"
)

// A peer that has not been heard is sent the first packet twice and no more; as
// soon as it is heard the rest goes on at once.
func TestUnprovenPeer(t *testing.T) {
	world(t, vnet.Link{Latency: 10 * time.Millisecond}, func(t *testing.T, _ *vnet.Network, a, b *side) {
		x, err := a.mux.NewStream(StreamConfig{})
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.mux.NewStream(StreamConfig{})
		if err != nil {
			t.Fatal(err)
		}
		b.host.SetFilter(vnet.Filter{In: func(_, _ netip.AddrPort) bool { return false }})
		if err := x.Connect(a.conn, y.ID(), b.addr(), ConnectOptions{RTT: 40 * time.Millisecond, Unproven: true}); err != nil {
			t.Fatal(err)
		}
		x.Write([]byte("hello"))
		time.Sleep(10 * time.Second)
		if s := x.Stats(); s.PacketsSent != 2 {
			t.Errorf("%d packets were sent to somebody who is silent", s.PacketsSent)
		}
		b.host.SetFilter(vnet.Filter{})
		connect(t, y, b.conn, x, a.addr())
		y.Write([]byte("who is there?"))
		y.SetReadDeadline(time.Now().Add(25 * time.Millisecond)) // a round trip and a bit
		got := make([]byte, 10)
		if n, err := y.Read(got); err != nil || string(got[:n]) != "hello" {
			t.Errorf("%q, %v", got[:n], err)
		}
	})
}

// One that stays silent is given up at the usual time.
func TestUnprovenPeerIsGivenUp(t *testing.T) {
	world(t, vnet.Link{}, func(t *testing.T, _ *vnet.Network, a, b *side) {
		x, err := a.mux.NewStream(StreamConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Connect(a.conn, 1, b.addr(), ConnectOptions{Unproven: true}); err != nil {
			t.Fatal(err)
		}
		x.Write([]byte("hello"))
		began := time.Now()
		<-x.Done()
		if d := time.Since(began); d != giveUpTimeouts*time.Second {
			t.Errorf("given up after %v", d)
		}
	})
}

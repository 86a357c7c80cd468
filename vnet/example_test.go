package vnet_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// Two hosts, one of them behind a home router. This runs in real time; within a
// bubble of testing/synctest it would take none.
func Example() {
	n := vnet.New(1)
	defer n.Close()
	n.SetLink(vnet.Link{Latency: time.Millisecond})
	server := n.Host()
	home := n.NAT(vnet.Cone)
	laptop := home.Host()

	listen := func(h *vnet.Host, port uint16) udp.Conn {
		c, err := h.Listen(netip.AddrPortFrom(h.Addr(), port))
		if err != nil {
			panic(err)
		}
		return c
	}
	s, l := listen(server, 53), listen(laptop, 5000)
	l.WriteBatch([]udp.Datagram{{Payload: []byte("who am I?"), Peer: s.LocalAddr()}})
	batch := make([]udp.Datagram, 1)
	if _, err := s.ReadBatch(batch); err != nil {
		panic(err)
	}
	fmt.Println(l.LocalAddr(), "is seen at", batch[0].Peer)
	// Output: 192.168.1.2:5000 is seen at 21.0.0.1:5000
}

package udp_test

import (
	"fmt"
	"net/netip"

	"github.com/warren-dht/warren/udp"
)

// echo claims the datagrams that begin with a question mark.
type echo struct{}

func (echo) HandleBatch(c udp.Conn, batch []udp.Datagram) (rest []udp.Datagram) {
	rest = batch[:0]
	for _, d := range batch {
		if len(d.Payload) > 0 && d.Payload[0] == '?' {
			c.WriteBatch([]udp.Datagram{{Payload: d.Payload[1:], Peer: d.Peer}})
		} else {
			rest = append(rest, d)
		}
	}
	return rest
}

func Example() {
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	server, err := udp.Default.Listen(loopback)
	if err != nil {
		panic(err)
	}
	defer server.Close()
	go udp.Serve(server, echo{})

	client, err := udp.Default.Listen(loopback)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	client.WriteBatch([]udp.Datagram{{Payload: []byte("?hello"), Peer: server.LocalAddr()}})
	batch := make([]udp.Datagram, udp.BatchSize)
	n, err := client.ReadBatch(batch)
	fmt.Printf("%d %s %v\n", n, batch[0].Payload, err)
	// Output: 1 hello <nil>
}

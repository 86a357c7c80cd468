package udp_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/warren-dht/warren/udp"
)

func TestRoundTrip(t *testing.T) {
	a, err := udp.Default.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := udp.Default.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if n, err := a.WriteBatch([]udp.Datagram{{Payload: []byte("hello"), Peer: b.LocalAddr(), TTL: 5}}); n != 1 || err != nil {
		t.Fatalf("WriteBatch = %d, %v", n, err)
	}
	batch := make([]udp.Datagram, 4)
	if n, err := b.ReadBatch(batch); n != 1 || err != nil || string(batch[0].Payload) != "hello" || batch[0].Peer != a.LocalAddr() {
		t.Fatalf("ReadBatch = %d, %v, %v", n, err, batch[0])
	}
	done := make(chan error)
	go func() { _, err := a.ReadBatch(batch); done <- err }()
	a.Close()
	if err := <-done; err != net.ErrClosed {
		t.Errorf("ReadBatch after Close: %v", err)
	}
}

package mainline

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/warren-dht/warren/udp"
)

// A desk is a network and its only socket. Nothing arrives by it: a test gives
// the node datagrams by hand, from whichever address it likes, and reads what
// the node sends.
type desk struct {
	local  netip.AddrPort
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	sent []udp.Datagram
}

func newDesk() *desk {
	return &desk{local: netip.MustParseAddrPort("127.0.0.1:6881"), closed: make(chan struct{})}
}

func (d *desk) Listen(netip.AddrPort) (udp.Conn, error) { return d, nil }
func (d *desk) Addrs() ([]netip.Addr, error)            { return nil, nil }
func (d *desk) Watch(context.Context) <-chan struct{}   { return nil }
func (d *desk) LocalAddr() netip.AddrPort               { return d.local }
func (d *desk) ReadBatch(b []udp.Datagram) (int, error) { <-d.closed; return 0, net.ErrClosed }
func (d *desk) Close() error                            { d.once.Do(func() { close(d.closed) }); return nil }
func (d *desk) WriteBatch(list []udp.Datagram) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range list {
		x.Payload = bytes.Clone(x.Payload)
		d.sent = append(d.sent, x)
	}
	return len(list), nil
}

// take returns what was sent since it was called last.
func (d *desk) take() []udp.Datagram {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.sent
	d.sent = nil
	return list
}

// direct makes a node on a desk, with the given id.
func direct(t testing.TB, change func(*Config)) (*Node, *desk) {
	t.Helper()
	d := newDesk()
	cfg := Config{Network: d, NoBootstrap: true}
	if change != nil {
		change(&cfg)
	}
	n, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	if err := n.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n, d
}

// give hands the node a datagram and returns its answer, nil if there is none.
// Queries of the node's own are passed over.
func (d *desk) give(n *Node, from netip.AddrPort, b []byte) []byte {
	d.take()
	n.sockets[0].HandleBatch(d, []udp.Datagram{{Payload: bytes.Clone(b), Peer: from}})
	for _, x := range d.take() {
		if x.Peer == from && !bytes.HasSuffix(x.Payload, []byte("1:y1:qe")) {
			return x.Payload
		}
	}
	return nil
}

// twoDesks are a network with a socket of each family.
type twoDesks [2]*desk

func (d twoDesks) Listen(a netip.AddrPort) (udp.Conn, error) { return d[family(a.Addr().Is6())], nil }
func (d twoDesks) Addrs() ([]netip.Addr, error)              { return nil, nil }
func (d twoDesks) Watch(context.Context) <-chan struct{}     { return nil }

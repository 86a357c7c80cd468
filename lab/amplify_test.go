package lab

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
)

// A handshake may come from a forged address. What its owner, who is silent, gets
// for it is not three times as much as the handshake had (RFC 9000, section 8.1).
func TestHandshakeDrawsLittle(t *testing.T) {
	for _, firewall := range []uint64{0, 1} {
		inBubble(t, dhtSize, func(w *world) {
			server := w.serve(w.join(w.Internet.Host(), hyperdht.Config{Firewalled: isFalse()}), hyperdht.ListenConfig{})
			a := w.attacker()
			h := a.shake(server.PublicKey(), firewall)
			m := h.message(fromClient, none, none)
			tap := w.tap()
			tap.request(server.Relays()[0], peerHandshake, h.key, m)
			time.Sleep(time.Minute)
			if out, in := tap.sent, tap.got.Load(); in == 0 || in > 3*int64(out) {
				w.t.Errorf("firewall %d: %d bytes draw %d in %d datagrams", firewall, out, in, tap.datagrams.Load())
			}
		})
	}
}

// A wiretap sends one datagram and counts what comes, silently.
type wiretap struct {
	t              *testing.T
	conn           udp.Conn
	sent           int
	got, datagrams atomic.Int64
}

func (w *world) tap() *wiretap {
	w.t.Helper()
	conn, err := w.Internet.Host().Listen(netip.AddrPort{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	tap := &wiretap{t: w.t, conn: conn}
	go udp.Serve(conn, tap)
	return tap
}

func (tap *wiretap) HandleBatch(_ udp.Conn, batch []udp.Datagram) []udp.Datagram {
	for _, d := range batch {
		tap.got.Add(int64(len(d.Payload)))
		tap.datagrams.Add(1)
	}
	return nil
}

// request sends a request.
func (tap *wiretap) request(to netip.AddrPort, command byte, key hyperdht.PublicKey, value []byte) {
	b := request(to, command, key, value)
	tap.sent = len(b)
	tap.conn.WriteBatch([]udp.Datagram{{Payload: b, Peer: to}})
}

// request is a request of dht-rpc with a target and a value of less than 253 bytes
// (docs/spec/dht-rpc.md §2).
func request(to netip.AddrPort, command byte, key hyperdht.PublicKey, value []byte) []byte {
	target := hyperdht.TargetOf(key)
	at := to.Addr().As4()
	b := []byte{0x03, 8 | 16, 7, 0} // version, flags: target and value, transaction
	b = append(b, at[:]...)
	b = append(b, byte(to.Port()), byte(to.Port()>>8), command)
	b = append(b, target[:]...)
	b = append(b, byte(len(value)))
	return append(b, value...)
}

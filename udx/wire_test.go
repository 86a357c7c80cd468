package udx

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/internal/seq"
	"github.com/warren-dht/warren/udp"
)

var (
	peerAddr  = netip.MustParseAddrPort("192.0.2.1:1000")
	otherAddr = netip.MustParseAddrPort("192.0.2.2:2000")
)

// A wireConn is a socket whose other end is the test.
type wireConn struct {
	mu     sync.Mutex
	sent   []udp.Datagram
	closed bool
}

func (c *wireConn) ReadBatch([]udp.Datagram) (int, error) { return 0, net.ErrClosed }

func (c *wireConn) WriteBatch(dgs []udp.Datagram) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	for _, d := range dgs {
		d.Payload = slices.Clone(d.Payload)
		c.sent = append(c.sent, d)
	}
	return len(dgs), nil
}

// forget drops what was sent.
func (c *wireConn) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = nil
}

func (c *wireConn) LocalAddr() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.9:9") }

func (c *wireConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

// A wire is one stream (id 11) whose peer (id 22) is the test: in sends it a
// packet, want takes the next one that it sent. It runs in a bubble.
type wire struct {
	*testing.T
	mux  *Mux
	conn *wireConn
	s    *Stream
}

const (
	localID  = 11
	remoteID = 22
)

func onWire(t *testing.T, config StreamConfig, f func(w *wire)) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{T: t, mux: NewMux(Config{}), conn: &wireConn{}}
		config.ID = localID
		s, err := w.mux.NewStream(config)
		if err != nil {
			t.Fatal(err)
		}
		w.s = s
		defer w.mux.Close()
		f(w)
	})
}

func (w *wire) connect() {
	w.Helper()
	if err := w.s.Connect(w.conn, remoteID, peerAddr, ConnectOptions{}); err != nil {
		w.Fatal(err)
	}
}

// raw sends datagrams to the stream, as one batch, and returns those that it
// did not claim.
func (w *wire) raw(from netip.AddrPort, dgs ...[]byte) []udp.Datagram {
	var batch []udp.Datagram
	for _, b := range dgs {
		batch = append(batch, udp.Datagram{Payload: slices.Clone(b), Peer: from})
	}
	return w.mux.HandleBatch(w.conn, batch)
}

// pkt builds a packet to the stream.
func pkt(fl flags, n, ack seq.Number, payload string) packet {
	return packet{
		header:  header{flags: fl, streamID: localID, rwnd: 4 << 20, seq: n, ack: ack},
		payload: []byte(payload),
	}
}

// sacked adds blocks to a packet.
func sacked(p packet, blocks ...seq.Range) packet {
	p.flags |= flagSACK
	for _, r := range blocks {
		p.sacks = appendSACKBlock(p.sacks, r)
	}
	if len(p.payload) > 0 {
		p.offset = uint8(len(p.sacks))
	}
	return p
}

// in sends packets to the stream, as one batch.
func (w *wire) in(ps ...packet) {
	w.Helper()
	var dgs [][]byte
	for _, p := range ps {
		dgs = append(dgs, p.Append(nil))
	}
	if rest := w.raw(peerAddr, dgs...); len(rest) > 0 {
		w.Fatalf("%d packets were not claimed", len(rest))
	}
}

// out takes everything that the stream has sent, after letting it settle.
func (w *wire) out() []packet {
	w.Helper()
	synctest.Wait()
	w.conn.mu.Lock()
	defer w.conn.mu.Unlock()
	var ps []packet
	for _, d := range w.conn.sent {
		p, err := parsePacket(d.Payload)
		if err != nil {
			w.Fatalf("sent %x: %v", d.Payload, err)
		}
		ps = append(ps, p)
	}
	w.conn.sent = nil
	return ps
}

// show is a packet in short, without id and window.
func show(p packet) string {
	s := fmt.Sprintf("%s seq %d ack %d", p.flags, p.seq, p.ack)
	for i := range p.sackBlocks() {
		r := p.sackBlock(i)
		s += fmt.Sprintf(" [%d,%d)", r.Start, r.End)
	}
	if len(p.payload) > 0 && p.flags&flagSACK == 0 {
		s += fmt.Sprintf(" %q", p.payload)
	}
	return s
}

// want takes what the stream has sent and compares it with short descriptions.
func (w *wire) want(why string, descriptions ...string) {
	w.Helper()
	var got []string
	for _, p := range w.out() {
		got = append(got, show(p))
	}
	if !slices.Equal(got, descriptions) {
		w.Fatalf("%s:\ngot  %q\nwant %q", why, got, descriptions)
	}
}

func (w *wire) idle(why string) {
	w.Helper()
	w.want(why)
}

func (w *wire) write(s string) {
	w.Helper()
	if _, err := w.s.Write([]byte(s)); err != nil {
		w.Fatal(err)
	}
}

// read reads what is there without waiting; "EOF" or an error in brackets stand
// for themselves.
func (w *wire) read() string {
	w.Helper()
	w.s.SetReadDeadline(time.Now().Add(time.Nanosecond))
	defer w.s.SetReadDeadline(time.Time{})
	b := make([]byte, 1<<16)
	n, err := w.s.Read(b)
	if err != nil {
		return "[" + err.Error() + "]"
	}
	return string(b[:n])
}

package udx

import (
	"io"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/warren-dht/warren/internal/seq"
	"github.com/warren-dht/warren/udp"
)

// heap is the memory in use after a collection.
func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestIdleStreamWeight: a stream that has nothing in flight holds no buffers.
func TestIdleStreamWeight(t *testing.T) {
	mux := NewMux(Config{})
	defer mux.Close()
	conn := &wireConn{}
	const streams = 1000
	before := heap()
	list := make([]*Stream, streams)
	now := mux.clock.now()
	for i := range list {
		s, err := mux.NewStream(StreamConfig{})
		if err != nil {
			t.Fatal(err)
		}
		list[i] = s
		if err := s.Connect(conn, remoteID, peerAddr, ConnectOptions{}); err != nil {
			t.Fatal(err)
		}
		// A busy past: data out and in, out of order as well.
		s.mu.Lock()
		s.core.snd.write(make([]byte, 200_000), s.core.mss())
		s.flushAlone(now)
		s.mu.Unlock()
		for s.Stats().Unsent > 0 || s.Stats().InFlight > 0 {
			s.mu.Lock()
			ack := header{streamID: s.id, rwnd: 4 << 20, ack: s.core.snd.nxt}
			s.mu.Unlock()
			mux.HandleBatch(conn, []udp.Datagram{{Payload: ack.Append(nil), Peer: peerAddr}})
			now = now.add(time.Millisecond)
			s.mu.Lock()
			s.flushAlone(now)
			s.mu.Unlock()
		}
		for _, n := range []seq.Number{1, 2, 3, 0} {
			p := packet{header: header{flags: flagData, streamID: s.id, rwnd: 4 << 20, seq: n, ack: s.core.snd.nxt}, payload: make([]byte, 1400)}
			mux.HandleBatch(conn, []udp.Datagram{{Payload: p.Append(nil), Peer: peerAddr}})
		}
		if _, err := io.ReadFull(s, make([]byte, 4*1400)); err != nil {
			t.Fatal(err)
		}
		conn.forget()
	}
	weight := (heap() - before) / streams
	t.Logf("%d bytes a stream", weight)
	if weight > 6<<10 {
		t.Errorf("%d bytes a stream", weight)
	}
	runtime.KeepAlive(list)
}

// TestGarbageWeight: a million packets that a stranger, or a hostile peer, made
// up take no more than 16 MB.
func TestGarbageWeight(t *testing.T) {
	mux := NewMux(Config{})
	defer mux.Close()
	conn := &wireConn{}
	s, err := mux.NewStream(StreamConfig{ID: localID, Accept: func(*Stream, udp.Conn, netip.AddrPort) bool { return false }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Connect(conn, remoteID, peerAddr, ConnectOptions{}); err != nil {
		t.Fatal(err)
	}
	s.ReceiveMessages()
	before := heap()
	most := 0
	r := uint32(1)
	random := func() uint32 { r = r*1664525 + 1013904223; return r }
	payload := make([]byte, 1400)
	batch := make([]udp.Datagram, 0, udp.BatchSize)
	kinds := []flags{flagData, flagEnd, flagData | flagEnd, flagMessage, flagHeartbeat, flagSACK, 0xff &^ (flagDestroy | flagHeartbeat), 0}
	for i := range 1_000_000 {
		p := packet{header: header{
			flags:    kinds[i%len(kinds)],
			streamID: localID,
			rwnd:     random(),
			seq:      1 + seq.Number(random()%100_000), // never in order: all must be kept, or dropped
			ack:      seq.Number(random() % 3),
		}}
		if i%len(kinds) == 0 {
			p.payload = payload[:random()%1400]
		}
		peer := peerAddr
		switch i % 5 {
		case 0:
			p.streamID = random()
		case 1:
			peer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(i >> 8), byte(i >> 16)}), uint16(i))
		}
		batch = append(batch, udp.Datagram{Payload: p.Append(nil), Peer: peer})
		if len(batch) == cap(batch) {
			mux.HandleBatch(conn, batch)
			batch = batch[:0]
			conn.forget()
			if i%100_000 < 100 {
				most = max(most, heap()-before)
			}
		}
	}
	most = max(most, heap()-before)
	t.Logf("%d bytes", most)
	if most > 16<<20 {
		t.Errorf("%d bytes", most)
	}
	if isDone(s) {
		t.Errorf("the stream ended: %v", s.Err())
	}
}

func isDone(s *Stream) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// TestSteadyStateAllocations: sending and receiving a packet allocates nothing.
func TestSteadyStateAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	p := newAllocPair(t)
	for range 200 {
		p.step(t)
	}
	if n := testing.AllocsPerRun(200, func() { p.step(t) }); n > 0.5 {
		t.Errorf("%v allocations for a train of packets and its acknowledgement", n)
	}
}

// An allocPair is two connected streams whose sockets are each other's, without
// a copy or a goroutine between them.
type allocPair struct {
	mux   [2]*Mux
	s     [2]*Stream
	conn  [2]*backConn
	buf   []byte
	batch []udp.Datagram
}

// A backConn keeps what was written until the test carries it over.
type backConn struct {
	wireConn
	out  []udp.Datagram
	mem  []byte
	from netip.AddrPort
}

func (c *backConn) WriteBatch(dgs []udp.Datagram) (int, error) {
	for _, d := range dgs {
		k := len(c.mem)
		c.mem = append(c.mem, d.Payload...)
		c.out = append(c.out, udp.Datagram{Payload: c.mem[k:len(c.mem):len(c.mem)], Peer: c.from})
	}
	return len(dgs), nil
}

func newAllocPair(t testing.TB) *allocPair {
	p := &allocPair{buf: make([]byte, 40_000)}
	addrs := [2]netip.AddrPort{peerAddr, otherAddr}
	for i := range 2 {
		p.mux[i] = NewMux(Config{})
		t.Cleanup(func() { p.mux[i].Close() })
		p.conn[i] = &backConn{from: addrs[i], mem: make([]byte, 0, 1<<20)}
		s, err := p.mux[i].NewStream(StreamConfig{ID: uint32(i + 1)})
		if err != nil {
			t.Fatal(err)
		}
		p.s[i] = s
	}
	for i, s := range p.s {
		if err := s.Connect(p.conn[i], uint32(2-i), addrs[1-i], ConnectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// step writes a train, carries everything over until all is still, and reads.
func (p *allocPair) step(t testing.TB) {
	if _, err := p.s[0].Write(p.buf); err != nil {
		t.Fatal(err)
	}
	for moved := true; moved; {
		moved = false
		for i, c := range p.conn {
			if len(c.out) > 0 {
				moved = true
				p.batch = append(p.batch[:0], c.out...)
				mem := c.mem
				c.out, c.mem = c.out[:0], mem[len(mem):]
				p.mux[1-i].HandleBatch(p.conn[1-i], p.batch)
				if len(c.out) == 0 {
					c.mem = mem[:0]
				}
			}
		}
	}
	for n := 0; n < len(p.buf); {
		k, err := p.s[1].Read(p.buf)
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
}

// BenchmarkPackets is the cost of a full packet, both ends together, without
// sockets.
func BenchmarkPackets(b *testing.B) {
	p := newAllocPair(b)
	for range 50 {
		p.step(b)
	}
	b.SetBytes(int64(len(p.buf)))
	b.ReportAllocs()
	for b.Loop() {
		p.step(b)
	}
}

// BenchmarkReordered is the cost of a train of full packets whose first one comes
// last.
func BenchmarkReordered(b *testing.B) {
	const train = 44
	mux := NewMux(Config{})
	defer mux.Close()
	conn := &wireConn{}
	s, err := mux.NewStream(StreamConfig{ID: localID})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Connect(conn, remoteID, peerAddr, ConnectOptions{}); err != nil {
		b.Fatal(err)
	}
	p := packet{header: header{flags: flagData, streamID: localID, rwnd: 4 << 20}, payload: make([]byte, 1452)}
	var batch []udp.Datagram
	for range train {
		batch = append(batch, udp.Datagram{Payload: p.Append(nil), Peer: peerAddr})
	}
	buf := make([]byte, train*1452)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for base := seq.Number(0); b.Loop(); base += train {
		for i := range batch {
			h := p.header
			h.seq = base + seq.Number(i+1)
			if i == train-1 {
				h.seq = base
			}
			h.put(batch[i].Payload)
		}
		mux.HandleBatch(conn, batch)
		conn.forget()
		if _, err := io.ReadFull(s, buf); err != nil {
			b.Fatal(err)
		}
	}
}

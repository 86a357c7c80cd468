package udx

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/internal/seq"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// Packets in any order come out as they went in, and the memory that is counted
// is given back.
func TestReassemblyContent(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		mem := &memory{max: 1 << 30}
		r := reassembly{mem: mem}
		base := seq.Number(rng.Uint32())
		n := 1 + rng.IntN(300)
		payloads := make([][]byte, n)
		for i := range payloads {
			payloads[i] = make([]byte, []int{0, 1, rng.IntN(100), 1200 + rng.IntN(253), maxPayload}[rng.IntN(5)])
			for k := range payloads[i] {
				payloads[i][k] = byte(rng.Uint32())
			}
		}
		next, sum := 0, 0
		order := rng.Perm(n)
		late := rng.IntN(n) // the first one that is taken comes after so many
		for k, i := range order {
			if i < next {
				continue
			}
			if !r.add(base, base+seq.Number(i), flagData, payloads[i], 1<<30) || r.add(base, base+seq.Number(i), flagData, nil, 1<<30) {
				t.Fatal("not kept once")
			}
			sum += len(payloads[i])
			for k >= late {
				e := r.head(base + seq.Number(next))
				if e == nil {
					break
				}
				a, b := e.payload()
				if got := append(bytes.Clone(a), b...); !bytes.Equal(got, payloads[next]) {
					t.Fatalf("packet %d is %d bytes, want %d", next, len(got), len(payloads[next]))
				}
				r.pop()
				next++
			}
			if used := mem.used.Load(); used != int64(r.cost()) {
				t.Fatalf("%d bytes are counted, %d used", used, r.cost())
			}
			if k < late {
				if most := 3*sum + tinySlab + maxPayload + (k+1)*earlySize; r.cost() > most {
					t.Fatalf("%d bytes for %d in %d packets", r.cost(), sum, k+1)
				}
			}
		}
		if rng.IntN(2) == 0 {
			r.clear()
		} else {
			for r.head(base+seq.Number(next)) != nil {
				r.pop()
				next++
			}
			if next != n {
				t.Fatalf("stopped at %d of %d", next, n)
			}
		}
		if mem.used.Load() != 0 || r.held != 0 || r.slab != nil {
			t.Fatalf("%d bytes are left", mem.used.Load())
		}
	}
}

// One packet out of each slab, far ahead of all others, must not hold the slabs
// of all that came with it.
func TestPinnedSlabs(t *testing.T) {
	r := reassembly{mem: &memory{max: 1 << 30}}
	limit := initialWindow + initialWindow/4
	payload := make([]byte, 1452)
	next, far := seq.Number(0), seq.Number(40_000)
	for range 1000 {
		r.add(next, far, flagData, []byte{1}, limit)
		far++
		for n := range seq.Number(45) {
			r.add(next, next+1+n, flagData, payload, limit)
		}
		for next++; r.head(next) != nil; next++ {
			r.pop()
		}
	}
	if r.held > 2*limit+largeSlab {
		t.Errorf("%d bytes for a window of %d", r.held, initialWindow)
	}
}

// What comes in packets of a byte behind a gap costs no more than was sent, and
// is given back when the gap stays open.
func TestGapWeight(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's own memory counts")
	}
	synctest.Test(t, func(t *testing.T) {
		const streams, packets = 1000, 460
		mux, conn := NewMux(Config{}), &wireConn{}
		defer mux.Close()
		list := make([]*Stream, streams)
		for i := range list {
			s, err := mux.NewStream(StreamConfig{ID: uint32(i + 1)})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Connect(conn, remoteID, peerAddr, ConnectOptions{}); err != nil {
				t.Fatal(err)
			}
			list[i] = s
		}
		before, sent := heap(), 0
		for i := range list {
			var batch []udp.Datagram
			for n := range seq.Number(packets) {
				// Each alone in its range of numbers, which is the most costly.
				p := packet{header: header{flags: flagData, streamID: uint32(i + 1), seq: 2*n + 1}, payload: []byte{1}}
				batch = append(batch, udp.Datagram{Payload: p.Append(nil), Peer: peerAddr})
				sent += headerSize + 1
			}
			mux.HandleBatch(conn, batch)
			conn.forget()
		}
		most := heap() - before
		t.Logf("%d bytes for %d sent; %d are counted", most, sent, mux.Memory())
		if most > 2*sent {
			t.Errorf("%d bytes for %d sent", most, sent)
		}
		if counted := mux.Memory(); counted < most/3 || counted > most*3/2 {
			t.Errorf("%d bytes are counted, %d are in use", counted, most)
		}
		time.Sleep(gapTime + time.Second)
		synctest.Wait()
		for _, s := range list {
			if !isDone(s) || !errors.Is(s.Err(), syscall.ETIMEDOUT) {
				t.Fatalf("a stream with a gap lives on: %v", s.Err())
			}
		}
		list = nil
		conn.forget()
		if left := heap() - before; mux.Memory() != 0 || left > sent/10 {
			t.Errorf("%d bytes are left, %d are counted", left, mux.Memory())
		}
		runtime.KeepAlive(mux)
	})
}

// A gap ends the stream when nothing narrows it, and the peer is told.
func TestOpenGap(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		n := seq.Number(0)
		w.in(pkt(flagData, n+2, 0, "kept"))
		for range 10 { // slowly, but it moves
			time.Sleep(gapTime - time.Second)
			w.in(pkt(flagData, n, 0, "x"), pkt(flagData, n+3, 0, "y"))
			n++
			w.in(pkt(flagData, n, 0, "x"), pkt(flagData, n+3, 0, "y"), pkt(flagData, n+4, 0, "z"))
			n = w.s.core.rcv.next
			w.in(pkt(flagData, n+2, 0, "kept"))
		}
		if isOver(w.s) {
			t.Fatalf("ended although it moves: %v", w.s.Err())
		}
		w.out()
		time.Sleep(gapTime - time.Second)
		w.idle("not yet")
		time.Sleep(time.Second)
		w.want("enough", fmt.Sprintf("DESTROY seq 0 ack %d", n))
		var err interface{ Timeout() bool }
		if !isOver(w.s) || !errors.Is(w.s.Err(), syscall.ETIMEDOUT) || !errors.As(w.s.Err(), &err) || !err.Timeout() {
			t.Errorf("%v", w.s.Err())
		}
	})
	// Without a gap silence is no error.
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		w.in(pkt(flagData, 1, 0, "y"), pkt(flagData, 0, 0, "x"))
		time.Sleep(time.Hour)
		if isOver(w.s) {
			t.Errorf("ended: %v", w.s.Err())
		}
	})
}

// Peers of readers that do not read make all streams together keep no more than
// there is memory for, and a share of each; even if they do not heed the window.
func TestUnreadMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = 100
		mux, conn := NewMux(Config{MaxMemory: 4 << 20}), &wireConn{}
		defer mux.Close()
		var list []*Stream
		for i := range streams {
			s, err := mux.NewStream(StreamConfig{ID: uint32(i + 1)})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Connect(conn, remoteID, peerAddr, ConnectOptions{}); err != nil {
				t.Fatal(err)
			}
			s.ReceiveMessages()
			// Its window has grown in better times.
			s.core.rcv.limit = DefaultMaxWindow
			list = append(list, s)
		}
		payload := make([]byte, 1400)
		send := func(s *Stream, fl flags, n seq.Number, payload []byte) {
			p := packet{header: header{flags: fl, streamID: s.id, seq: n}, payload: payload}
			mux.HandleBatch(conn, []udp.Datagram{{Payload: p.Append(nil), Peer: peerAddr}})
		}
		for range 4 << 20 / len(payload) / 10 {
			for _, s := range list {
				send(s, flagData, s.core.rcv.next, payload)
				send(s, flagMessage, 0, payload)
				send(s, flagData, s.core.rcv.next+5, payload)
			}
			conn.forget()
		}
		largest := 0
		for _, s := range list {
			u := s.core.rcv.queue.held + s.core.rcv.ooo.cost()
			largest = max(largest, u)
			if s.core.rcv.queue.size < share {
				t.Errorf("a stream was refused its next packet with %d bytes unread", s.core.rcv.queue.size)
			}
		}
		// A share may end within a slab as large as the rest of it.
		if most := 4<<20 + streams*(2*share+2*share+3*maxPayload); mux.Memory() > most || largest > 1<<20 {
			t.Errorf("%d bytes, the largest stream has %d", mux.Memory(), largest)
		}
		t.Logf("%d bytes, the largest stream has %d", mux.Memory(), largest)

		// Reading makes room, and the peer is told so.
		conn.forget()
		s := list[0]
		buf := make([]byte, share/2)
		told := false
		for range 4 {
			if s.core.rcv.queue.size > 0 {
				s.Read(buf)
			}
		}
		for _, d := range conn.sent {
			p, _ := parsePacket(d.Payload)
			told = told || p.rwnd >= share/4
		}
		if !told {
			t.Error("the peer of a stream that was read is not told of room")
		}
		for _, s := range list {
			s.Close()
		}
		mux.DestroyAll(nil)
		synctest.Wait()
		if mux.Memory() != 0 {
			t.Errorf("%d bytes are counted in the end", mux.Memory())
		}
	})
}

// Transfers to readers that pause get through with less memory than they would
// like, and an honest peer never has a packet refused for long.
func TestShortMemory(t *testing.T) {
	world(t, vnet.Link{Latency: 10 * time.Millisecond, Loss: 0.01}, func(t *testing.T, n *vnet.Network, a, b *side) {
		b.mux.Close()
		b = newSide(t, n)
		b.mux.memory.max = 256 << 10
		defer b.mux.Close()
		done := make(chan error, 12)
		for i := range cap(done) {
			x, y := pair(t, a, b)
			out := pattern(uint64(i), 1<<20)
			go func() {
				x.Write(out)
				x.Close()
			}()
			go func() {
				time.Sleep(time.Duration(i) * time.Second)
				done <- expect(y, out)
				y.Close()
			}()
		}
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if b.mux.Memory() != 0 {
			t.Errorf("%d bytes are counted in the end", b.mux.Memory())
		}
	})
}

package udx

import (
	"errors"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/internal/seq"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// TestShrinkingWindow: a peer that takes back what it offered gets no more new
// data than it offers now, and costs no connection.
func TestShrinkingWindow(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		for range 8 {
			w.write(full)
		}
		if n := len(w.out()); n != 8 {
			t.Fatalf("%d packets", n)
		}
		shrunk := pkt(0, 0, 1, "")
		shrunk.rwnd = 3 * 1400
		w.in(shrunk)
		for range 4 {
			w.write(full)
		}
		w.idle("seven are in flight, three would fit")
		shrunk = pkt(0, 0, 6, "")
		shrunk.rwnd = 3 * 1400
		w.in(shrunk)
		if n := len(w.out()); n > 1 {
			t.Errorf("%d new packets for a window of 3 with 2 in flight", n)
		}
		// What was sent before the window closed is still repaired.
		none := pkt(0, 0, 6, "")
		none.rwnd = 0
		w.in(none)
		time.Sleep(initialRTO)
		repaired := false
		for _, p := range w.out() {
			repaired = repaired || p.seq == 6
			if p.flags&flagData != 0 && p.seq > 8 {
				t.Errorf("number %d went into a closed window", p.seq)
			}
		}
		if !repaired {
			t.Error("number 6 was not sent again")
		}
		if isOver(w.s) {
			t.Error(w.s.Err())
		}
	})
}

// hostileBlocks are a full packet of SACK blocks that begin inside of runs that
// are known already, where each costs the most.
func hostileBlocks(una, nxt seq.Number, shift int) packet {
	p := pkt(0, 0, una, "")
	for i := range 250 {
		start := una + 1 + seq.Number((i*131+shift*17)%(nxt.Sub(una)-2))
		p = sacked(p, seq.Range{Start: start, End: nxt})
	}
	p.streamID = 1
	return p
}

// sackVictim is a core with as many packets in flight as there may be, all but
// the first acknowledged selectively, each for itself.
func sackVictim(tb testing.TB) *pump {
	p := newPump(tb, [2]uint32{0, 0})
	e := &p.ends[0]
	e.cc = constantWindow(1 << 20)
	e.peerRwnd = 1 << 30
	for e.snd.nxt < 1<<14 {
		p.write(0, 200_000)
	}
	p.ends[1].link = nil
	for n := seq.Number(1); n != e.snd.nxt; n++ {
		ack := sacked(pkt(0, 0, 0, ""), seq.Range{Start: n, End: n + 1})
		ack.streamID = 1
		q, _ := parsePacket(ack.Append(nil))
		e.input(p.now, &q)
	}
	return p
}

type constantWindow int

func (constantWindow) onSent(instant, int, *rateSampler) {}
func (constantWindow) onAck(instant, ackEvent)           {}
func (constantWindow) onRecovery()                       {}
func (constantWindow) onTimeout(int)                     {}
func (c constantWindow) window() int                     { return int(c) }
func (constantWindow) rate() float64                     { return 0 }

// TestSACKFlood: blocks made to be expensive change nothing, and honest ones
// still count afterwards.
func TestSACKFlood(t *testing.T) {
	p := sackVictim(t)
	e := &p.ends[0]
	flight := e.snd.flight.n
	for i := range 500 {
		flood := hostileBlocks(e.snd.una, e.snd.nxt, i)
		q, err := parsePacket(flood.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		e.input(p.now, &q)
	}
	if e.snd.flight.n != flight || e.done {
		t.Errorf("%d in flight, were %d; %v", e.snd.flight.n, flight, e.err)
	}
	nxt := e.snd.nxt
	ack := pkt(0, 0, nxt, "")
	ack.streamID = 1
	p.deliver(0, ack.Append(nil))
	if e.snd.una != nxt {
		t.Errorf("una %d after an acknowledgement of %d", e.snd.una, nxt)
	}
}

// BenchmarkSACKFlood is what the dearest packet costs.
func BenchmarkSACKFlood(b *testing.B) {
	p := sackVictim(b)
	e := &p.ends[0]
	var packets []packet
	for i := range 64 {
		flood := hostileBlocks(e.snd.una, e.snd.nxt, i)
		q, _ := parsePacket(flood.Append(nil))
		packets = append(packets, q)
	}
	for i := 0; b.Loop(); i++ {
		e.input(p.now, &packets[i%len(packets)])
	}
}

// TestWaitingRoom: what is held for all streams that are not connected yet is
// bounded, and goes with them.
func TestWaitingRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mux, conn := NewMux(Config{}), &wireConn{}
		defer mux.Close()
		payload := make([]byte, 1400)
		var targets []*Stream
		for range 400 {
			from, err := mux.NewStream(StreamConfig{})
			if err != nil {
				t.Fatal(err)
			}
			to, err := mux.NewStream(StreamConfig{})
			if err != nil {
				t.Fatal(err)
			}
			targets = append(targets, to)
			if err := from.Connect(conn, remoteID, peerAddr, ConnectOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := from.RelayTo(to); err != nil {
				t.Fatal(err)
			}
			for n := range seq.Number(10) {
				p := pkt(flagData, n, 0, string(payload))
				p.streamID = from.ID()
				mux.HandleBatch(conn, []udp.Datagram{{Payload: p.Append(nil), Peer: peerAddr}})
			}
			p := pkt(flagData, 10, 0, string(make([]byte, 60_000)))
			p.streamID = from.ID()
			mux.HandleBatch(conn, []udp.Datagram{{Payload: p.Append(nil), Peer: peerAddr}})
		}
		w := &mux.waiting
		size := 0
		for _, list := range w.held {
			if len(list) > maxHeld {
				t.Errorf("%d packets for a stream", len(list))
			}
			for _, p := range list {
				size += len(p)
			}
		}
		if size != w.size || size > maxAllHeld || size < maxAllHeld-2*len(payload) {
			t.Errorf("%d bytes held, counted as %d", size, w.size)
		}
		// One that is connected gets what was held for it.
		if err := targets[0].Connect(conn, 33, otherAddr, ConnectOptions{}); err != nil {
			t.Fatal(err)
		}
		if len(conn.sent) != maxHeld {
			t.Errorf("%d packets let go", len(conn.sent))
		}
		for _, s := range targets {
			s.Destroy(nil)
			if mux.hold(s, payload) != nil && s != targets[0] {
				t.Error("a dead stream has a route")
			}
		}
		if len(w.held) != 0 || w.size != 0 {
			t.Errorf("%d streams, %d bytes left", len(w.held), w.size)
		}
	})
}

// TestRelayStrangers: a relay forwards nothing that comes from elsewhere than the
// streams' peers, be it a DESTROY, and joins no stream twice.
func TestRelayStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mux, other, conn := NewMux(Config{}), NewMux(Config{}), &wireConn{}
		defer mux.Close()
		defer other.Close()
		open := func(m *Mux, remote netip.AddrPort) *Stream {
			s, err := m.NewStream(StreamConfig{})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Connect(conn, remoteID, remote, ConnectOptions{}); err != nil {
				t.Fatal(err)
			}
			return s
		}
		a, b, c := open(mux, peerAddr), open(mux, otherAddr), open(other, otherAddr)
		if err := a.RelayTo(c); err == nil {
			t.Error("joined with another node's stream")
		}
		if err := errors.Join(a.RelayTo(b), b.RelayTo(a)); err != nil {
			t.Fatal(err)
		}
		if err := a.RelayTo(b); err == nil {
			t.Error("joined twice")
		}
		if _, err := a.Write([]byte("x")); err == nil {
			t.Error("wrote into a relayed stream")
		}
		for _, fl := range []flags{flagData, flagDestroy, flagHeartbeat, flagMessage, 0} {
			p := pkt(fl, 0, 0, "")
			p.streamID = a.ID()
			for _, from := range []netip.AddrPort{otherAddr, netip.AddrPortFrom(peerAddr.Addr(), 1)} {
				mux.HandleBatch(conn, []udp.Datagram{{Payload: p.Append(nil), Peer: from}})
			}
		}
		if len(conn.sent) != 0 || isOver(a) || isOver(b) {
			t.Errorf("%d packets forwarded", len(conn.sent))
		}
	})
}

// TestAcceptHook: the hook may do to the stream, and to its Mux, what it likes.
func TestAcceptHook(t *testing.T) {
	var s *Stream
	var hook func(udp.Conn, netip.AddrPort) bool
	config := StreamConfig{Accept: func(_ *Stream, c udp.Conn, from netip.AddrPort) bool { return hook(c, from) }}
	packet := pkt(flagData, 0, 0, "x")
	data := packet.Append
	for what, f := range map[string]func(w *wire) bool{
		"close":     func(w *wire) bool { s.Close(); return true },
		"destroy":   func(w *wire) bool { s.Destroy(nil); return true },
		"close mux": func(w *wire) bool { w.mux.Close(); return true },
		"new stream": func(w *wire) bool {
			s.Destroy(nil)
			_, err := w.mux.NewStream(StreamConfig{ID: localID})
			return err == nil
		},
	} {
		t.Run(what, func(t *testing.T) {
			onWire(t, config, func(w *wire) {
				s = w.s
				calls := 0
				hook = func(udp.Conn, netip.AddrPort) bool { calls++; return f(w) }
				w.raw(peerAddr, data(nil), data(nil), data(nil))
				if calls != 1 || !isOver(s) {
					t.Errorf("called %d times, over: %v", calls, isOver(s))
				}
			})
		})
	}
	t.Run("relay", func(t *testing.T) {
		onWire(t, config, func(w *wire) {
			s = w.s
			to, err := w.mux.NewStream(StreamConfig{})
			if err != nil {
				t.Fatal(err)
			}
			if err := to.Connect(w.conn, 33, otherAddr, ConnectOptions{}); err != nil {
				t.Fatal(err)
			}
			hook = func(udp.Conn, netip.AddrPort) bool { return s.RelayTo(to) == nil }
			w.raw(peerAddr, data(nil))
			w.mustGo("the packet that the hook was asked about", otherAddr, 33)
		})
	})
	t.Run("feed", func(t *testing.T) {
		onWire(t, config, func(w *wire) {
			s = w.s
			first := true
			hook = func(udp.Conn, netip.AddrPort) bool {
				if first { // another socket's reader is asked at the same time
					first = false
					w.raw(peerAddr, data(nil))
				}
				return true
			}
			w.raw(peerAddr, data(nil))
			if got := w.read(); got != "x" {
				t.Errorf("read %q", got)
			}
		})
	})
}

// TestMoveWhileClosing: what was written before Close is delivered by the path
// that the stream moves to after it, and the stream then ends in order.
func TestMoveWhileClosing(t *testing.T) {
	world(t, vnet.Link{Latency: 10 * time.Millisecond, Rate: 1 << 20}, func(t *testing.T, _ *vnet.Network, a, b *side) {
		x, y := pair(t, a, b)
		want := pattern(1, 200<<10)
		if _, err := x.Write(want); err != nil {
			t.Fatal(err)
		}
		x.Close()
		time.Sleep(50 * time.Millisecond)
		conn := b.listen(t)
		at := netip.AddrPortFrom(b.addr().Addr(), conn.LocalAddr().Port())
		done, err := x.ChangeRemote(a.conn, y.ID(), at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := y.ChangeRemote(conn, x.ID(), a.addr()); err != nil {
			t.Fatal(err)
		}
		if err := expect(y, want); err != nil {
			t.Fatal(err)
		}
		if _, err := y.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("then %v", err)
		}
		<-done
		y.Close()
		<-x.Done()
		<-y.Done()
		if x.Err() != nil || y.Err() != nil {
			t.Errorf("ended with %v and %v", x.Err(), y.Err())
		}
		if _, err := x.ChangeRemote(a.conn, y.ID(), at); err == nil {
			t.Error("moved after the end")
		}
	})
}

// TestLargeMessages: a message beyond what the reference takes is dropped: 64 of
// them would be four megabytes that nobody has to read.
func TestLargeMessages(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		w.s.ReceiveMessages()
		w.in(pkt(flagMessage, 0, 0, string(make([]byte, maxPayload+1))), pkt(flagMessage, 0, 0, string(make([]byte, maxPayload))))
		if n := len(w.s.messages.waiting); n != 1 {
			t.Errorf("%d messages kept", n)
		}
	})
}

package udx

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/internal/seq"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// A DESTROY ends a stream at once only from its path, with the next number and a
// possible acknowledgement (RFC 5961, sections 3.2 and 5).
func TestResetNumbers(t *testing.T) {
	for _, c := range []struct {
		name      string
		seq, ack  seq.Number
		elsewhere bool
		ends      bool // at once
		asks      bool // the peer, instead
	}{
		{"exact", 1, 1, false, true, false},
		{"exact, with what we sent unacknowledged", 1, 0, false, true, false},
		{"ahead", 2, 1, false, false, true},
		{"last of the window", 1 + maxAhead - 1, 1, false, false, true},
		{"beyond the window", 1 + maxAhead, 1, false, false, false},
		{"behind", 0, 1, false, false, false},
		{"acknowledges what was never sent", 1, 2, false, false, false},
		{"acknowledges less than before", 1, ^seq.Number(0), false, false, false},
		{"from an accepted path", 1, 1, true, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			accept := func(*Stream, udp.Conn, netip.AddrPort) bool { return true }
			onWire(t, StreamConfig{Accept: accept}, func(w *wire) {
				w.connect()
				w.in(pkt(flagData, 0, 0, "x"))
				w.write("y")
				w.out()
				p := pkt(flagDestroy, c.seq, c.ack, "")
				from := peerAddr
				if c.elsewhere {
					from = otherAddr
				}
				w.raw(from, p.Append(nil))
				if isOver(w.s) != c.ends {
					t.Fatalf("over: %v", isOver(w.s))
				}
				if c.ends {
					if !errors.Is(w.s.Err(), syscall.ECONNRESET) {
						t.Errorf("%v", w.s.Err())
					}
					w.idle("no answer")
					return
				}
				if w.s.Stats().BadResets != 1 {
					t.Error("not counted")
				}
				if c.asks {
					w.want("the peer is asked", "HEARTBEAT seq 1 ack 1")
				} else {
					w.idle("no answer")
				}
			})
		})
	}
}

// What a live peer answers to the question keeps the stream, and a silent one
// loses it, however many such packets come meanwhile.
func TestDoubtedReset(t *testing.T) {
	const guesses = 100 // a second
	for _, alive := range []bool{true, false} {
		onWire(t, StreamConfig{}, func(w *wire) {
			w.connect()
			began := time.Now()
			asked := 0
			for time.Since(began) < time.Minute && !isOver(w.s) {
				w.in(pkt(flagDestroy, 5, 0, ""))
				time.Sleep(time.Second / guesses)
				for _, p := range w.out() {
					asked++
					if heartbeat := p.flags == flagHeartbeat; heartbeat == (asked%2 == 0) && !alive {
						t.Errorf("question %d is %s", asked, show(p))
					}
					if alive {
						w.in(pkt(0, 0, 0, ""))
					}
				}
			}
			took := time.Since(began)
			if alive && (isOver(w.s) || asked > 2*60) {
				t.Errorf("alive: over %v after %v, asked %d times", isOver(w.s), took, asked)
			}
			if !alive && (!errors.Is(w.s.Err(), syscall.ECONNRESET) || took < resetPatience || took > resetPatience+time.Second || asked > 6) {
				t.Errorf("silent: %v after %v, asked %d times", w.s.Err(), took, asked)
			}
		})
	}
}

// Packets that were sent before the DESTROY and overtaken by it do not keep the
// stream.
func TestOvertakenByReset(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		w.in(pkt(flagDestroy, 2, 0, ""))
		time.Sleep(100 * time.Millisecond)
		w.in(pkt(flagData, 0, 0, "late"), pkt(flagData, 1, 0, ", but there"))
		time.Sleep(resetPatience)
		if !isOver(w.s) {
			t.Fatal("lives on")
		}
		b, err := io.ReadAll(w.s)
		if string(b) != "late, but there" || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// Guessers who even know the streams' ids reset none of them: neither from an
// address of their own nor in the peer's name.
func TestGuessedResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mux, conn := NewMux(Config{}), &wireConn{}
		defer mux.Close()
		const streams, rounds = 1000, 500
		var list []*Stream
		rng := rand.New(rand.NewPCG(1, 2))
		next := func() seq.Number { return seq.Number(rng.Uint32()) }
		for id := range uint32(streams) {
			start := next()
			// The Accept hook believes everybody: it must not depend on that.
			s, err := mux.NewStream(StreamConfig{ID: id + 1, Seq: uint32(start), Accept: func(*Stream, udp.Conn, netip.AddrPort) bool { return true }})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Connect(conn, remoteID, peerAddr, ConnectOptions{Ack: uint32(next())}); err != nil {
				t.Fatal(err)
			}
			list = append(list, s)
		}
		answer := func() {
			conn.mu.Lock()
			sent := conn.sent
			conn.sent = nil
			conn.mu.Unlock()
			if len(sent) == 0 {
				return
			}
			for _, s := range list { // every peer says that it is there
				ack := header{streamID: s.id, rwnd: 4 << 20, seq: s.core.rcv.next, ack: s.core.snd.nxt}
				mux.HandleBatch(conn, []udp.Datagram{{Payload: ack.Append(nil), Peer: peerAddr}})
			}
		}
		for range rounds {
			for _, s := range list {
				// The guess is better than any: the number is in the window, and
				// from a foreign address everything is right.
				theirs := s.core.rcv.next + seq.Number(rng.IntN(maxAhead-1)) + 1
				inName := header{flags: flagDestroy, streamID: s.id, seq: theirs, ack: s.core.snd.nxt}
				blind := header{flags: flagDestroy, streamID: s.id, seq: s.core.rcv.next, ack: next()}
				foreign := header{flags: flagDestroy, streamID: s.id, seq: s.core.rcv.next, ack: s.core.snd.nxt}
				mux.HandleBatch(conn, []udp.Datagram{
					{Payload: inName.Append(nil), Peer: peerAddr},
					{Payload: blind.Append(nil), Peer: peerAddr},
					{Payload: foreign.Append(nil), Peer: otherAddr},
				})
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			answer()
		}
		for _, s := range list {
			if isDone(s) {
				t.Fatalf("a stream was reset: %v", s.Err())
			}
		}
	})
}

// A relay passes a DESTROY on and leaves it to the peers to judge: a forged one
// ends neither the pair nor its streams, and a genuine one does soon.
func TestRelayedReset(t *testing.T) {
	world(t, vnet.Link{Latency: 10 * time.Millisecond}, func(t *testing.T, n *vnet.Network, a, b *side) {
		r := newSide(t, n)
		defer r.mux.Close()
		x, _ := a.mux.NewStream(StreamConfig{})
		y, _ := b.mux.NewStream(StreamConfig{})
		rx, _ := r.mux.NewStream(StreamConfig{})
		ry, _ := r.mux.NewStream(StreamConfig{})
		connect(t, x, a.conn, rx, r.addr())
		connect(t, y, b.conn, ry, r.addr())
		connect(t, rx, r.conn, x, a.addr())
		connect(t, ry, r.conn, y, b.addr())
		if err := errors.Join(rx.RelayTo(ry), ry.RelayTo(rx)); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Stream{x, y} {
			s.SetKeepAlive(5 * time.Second)
		}
		for i := range 100 {
			forged := header{flags: flagDestroy, streamID: rx.ID(), seq: seq.Number(i + 1)}
			r.mux.HandleBatch(r.conn, []udp.Datagram{{Payload: forged.Append(nil), Peer: a.addr()}})
			time.Sleep(time.Second)
		}
		for name, s := range map[string]*Stream{"x": x, "y": y, "rx": rx, "ry": ry} {
			if isOver(s) {
				t.Errorf("%s was ended: %v", name, s.Err())
			}
		}
		if y.Stats().BadResets == 0 {
			t.Fatal("the forgeries did not get through the relay")
		}
		x.Destroy(nil)
		began := time.Now()
		<-y.Done()
		<-rx.Done()
		<-ry.Done()
		if !errors.Is(y.Err(), syscall.ECONNRESET) || !errors.Is(rx.Err(), syscall.ECONNRESET) || time.Since(began) > relayPatience+time.Second {
			t.Errorf("y ended with %v, rx with %v, after %v", y.Err(), rx.Err(), time.Since(began))
		}
	})
}

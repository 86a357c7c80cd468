package udx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/warren-dht/warren/internal/seq"
	"github.com/warren-dht/warren/vnet"
)

func TestEnds(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		w.write("hi")
		w.out()
		if err := w.s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		w.want("END has a number of its own", "END seq 1 ack 0")
		if _, err := w.s.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) || !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Write after CloseWrite: %v", err)
		}
		w.in(pkt(0, 0, 2, ""))
		w.in(pkt(flagEnd, 1, 2, ""))
		w.want("an END ahead of its turn waits", "SACK seq 2 ack 0 [1,2)")
		if got := w.read(); !strings.Contains(got, "timeout") {
			t.Errorf("read %q", got)
		}
		w.in(pkt(flagData, 0, 2, "bye"))
		w.want("both have ended: the last word", "ACK seq 2 ack 2")
		if !isOver(w.s) || w.s.Err() != nil {
			t.Errorf("over %v, error %v", isOver(w.s), w.s.Err())
		}
		b := make([]byte, 10)
		if n, err := w.s.Read(b); string(b[:n]) != "bye" || err != nil {
			t.Errorf("Read: %q, %v", b[:n], err)
		}
		if _, err := w.s.Read(b); err != io.EOF {
			t.Errorf("Read: %v", err)
		}

		// TIME-WAIT, §2.11: the final acknowledgement is repeated, once a batch,
		// to the peer alone, for five seconds.
		again := pkt(flagEnd, 1, 2, "")
		w.in(again, again, again)
		w.want("repeated", "ACK seq 2 ack 2")
		w.in(pkt(0, 2, 2, ""))
		w.idle("a bare acknowledgement wants no answer")
		if rest := w.raw(otherAddr, again.Append(nil)); len(rest) != 0 {
			t.Error("a stranger's packet for a past stream was not claimed")
		}
		w.idle("not for a stranger")
		time.Sleep(timeWaitTime + time.Millisecond)
		if rest := w.raw(peerAddr, again.Append(nil)); len(rest) != 1 {
			t.Error("still claimed after TIME-WAIT")
		}
		w.idle("nor later")
	})
}

// TestLastAck: a peer without TIME-WAIT whose last acknowledgement is lost has all
// that we sent.
func TestLastAck(t *testing.T) {
	for _, c := range []struct {
		name  string
		acked seq.Number // of DATA and END
		fails bool
	}{{"END missing", 1, false}, {"data missing", 0, true}} {
		t.Run(c.name, func(t *testing.T) {
			onWire(t, StreamConfig{}, func(w *wire) {
				w.connect()
				w.write("x")
				w.s.CloseWrite()
				w.in(pkt(flagEnd, 0, c.acked, ""))
				time.Sleep(14 * time.Second)
				if err := w.s.Err(); !isOver(w.s) || (err != nil) != c.fails {
					t.Errorf("over %v, %v", isOver(w.s), err)
				}
			})
		})
	}
}

func TestClose(t *testing.T) {
	t.Run("delivers", func(t *testing.T) {
		onWire(t, StreamConfig{}, func(w *wire) {
			w.connect()
			w.write("last words")
			if err := w.s.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := w.s.Read(nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Read: %v", err)
			}
			if _, err := w.s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write: %v", err)
			}
			if err := w.s.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("SetDeadline: %v", err)
			}
			w.want("data and END", `DATA seq 0 ack 0 "last words"`, "END seq 1 ack 0")
			w.in(pkt(0, 0, 2, ""))
			if isOver(w.s) {
				t.Error("over before the peer's END")
			}
			w.in(pkt(flagData, 0, 2, "unread"), pkt(flagEnd, 1, 2, ""))
			w.want("the peer's are acknowledged", "ACK seq 2 ack 2")
			if !isOver(w.s) || w.s.Err() != nil {
				t.Errorf("over %v, error %v", isOver(w.s), w.s.Err())
			}
		})
	})
	t.Run("lingers", func(t *testing.T) {
		onWire(t, StreamConfig{}, func(w *wire) {
			w.connect()
			w.s.Close()
			w.want("END", "END seq 0 ack 0")
			time.Sleep(time.Second)
			w.in(pkt(0, 0, 1, ""))
			w.out()
			time.Sleep(lingerTime - time.Millisecond)
			w.idle("the peer may take its time")
			time.Sleep(time.Millisecond)
			w.want("but not forever", "DESTROY seq 1 ack 0")
			if !isOver(w.s) || !errors.Is(w.s.Err(), net.ErrClosed) {
				t.Errorf("over %v, error %v", isOver(w.s), w.s.Err())
			}
		})
	})
	t.Run("unconnected", func(t *testing.T) {
		onWire(t, StreamConfig{}, func(w *wire) {
			w.s.Close()
			if !isOver(w.s) {
				t.Error("not over")
			}
			if err := w.s.Connect(w.conn, remoteID, peerAddr, ConnectOptions{}); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Connect: %v", err)
			}
		})
	})
	t.Run("socket", func(t *testing.T) {
		onWire(t, StreamConfig{}, func(w *wire) {
			w.connect()
			w.conn.Close()
			if _, err := w.s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write: %v", err)
			}
			if !isOver(w.s) || !errors.Is(w.s.Err(), net.ErrClosed) {
				t.Errorf("over %v, error %v", isOver(w.s), w.s.Err())
			}
		})
	})
}

func TestDestroy(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		w.write("x")
		w.out()
		reason := errors.New("changed my mind")
		w.s.Destroy(reason)
		w.want("DESTROY has the next number (§2.4)", "DESTROY seq 1 ack 0")
		if !isOver(w.s) || w.s.Err() != reason {
			t.Errorf("over %v, error %v", isOver(w.s), w.s.Err())
		}
		w.s.Destroy(nil)
		w.idle("once")
		p := pkt(0, 0, 1, "")
		if rest := w.raw(peerAddr, p.Append(nil)); len(rest) != 1 {
			t.Error("packet for a destroyed stream was claimed")
		}
	})
	// DESTROY overtakes data (§2.8), but what came in order can be read.
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		w.in(pkt(flagData, 0, 0, "first"), pkt(flagDestroy, 5, 0, ""))
		b := make([]byte, 10)
		if n, err := w.s.Read(b); string(b[:n]) != "first" || err != nil {
			t.Errorf("Read: %q, %v", b[:n], err)
		}
		if _, err := w.s.Read(b); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Read: %v", err)
		}
	})
	// A number far outside of what the peer can have reached is a forgery.
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		w.in(pkt(flagDestroy, maxAhead, 0, ""))
		if isOver(w.s) {
			t.Error("obeyed a DESTROY far ahead")
		}
	})
}

func TestMessages(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		if err := w.s.SendMessage(nil); !errors.Is(err, ErrNotConnected) {
			t.Errorf("before Connect: %v", err)
		}
		w.connect()
		if err := w.s.SendMessage([]byte("m")); err != nil {
			t.Fatal(err)
		}
		w.want("takes no number", `MESSAGE seq 0 ack 0 "m"`)
		if err := w.s.SendMessage(make([]byte, MaxMessage)); err != nil {
			t.Error(err)
		}
		if err := w.s.SendMessage(make([]byte, MaxMessage+1)); err != ErrMessageTooLong {
			t.Errorf("too long: %v", err)
		}
		w.out()
		w.in(pkt(flagMessage, 0, 0, "dropped: nobody asked"))
		w.s.ReceiveMessages()
		for i := range maxMessages + 5 {
			w.in(pkt(flagMessage, 0, 0, fmt.Sprint(i)))
		}
		b := make([]byte, 2)
		for i := range maxMessages {
			n, err := w.s.ReadMessage(b)
			if want := fmt.Sprint(i); err != nil || string(b[:n]) != want[:min(2, len(want))] {
				t.Fatalf("message %d: %q, %v", i, b[:n], err)
			}
		}
		w.s.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := w.s.ReadMessage(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("no more: %v", err)
		}
		w.idle("messages are not acknowledged")
	})
}

// TestOnEnd: the hook is called once, however the stream ends, and Close waits
// for it.
func TestOnEnd(t *testing.T) {
	for name, end := range map[string]func(w *wire){
		"destroyed here":    func(w *wire) { w.s.Destroy(nil) },
		"destroyed there":   func(w *wire) { w.in(pkt(flagDestroy, 0, 0, "")) },
		"ended in order":    func(w *wire) { w.in(pkt(flagEnd, 0, 0, "")); w.s.Close(); w.in(pkt(0, 1, 1, "")) },
		"closed with mux":   func(w *wire) { w.mux.Close() },
		"destroyed in bulk": func(w *wire) { w.mux.DestroyAll(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			onWire(t, StreamConfig{OnEnd: func() {
				time.Sleep(time.Second)
				calls++
			}}, func(w *wire) {
				w.connect()
				end(w)
				if !isOver(w.s) {
					t.Error("not over")
				}
			})
			if calls != 1 {
				t.Errorf("called %d times", calls)
			}
		})
	}
}

func TestSinceReceived(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		if d := w.s.SinceReceived(); d < 1<<62 {
			t.Errorf("before any packet: %v", d)
		}
		w.connect()
		w.in(pkt(0, 0, 0, ""))
		time.Sleep(time.Minute)
		if d := w.s.SinceReceived(); d != time.Minute {
			t.Errorf("%v", d)
		}
	})
}

func TestNewStreamIDs(t *testing.T) {
	m := NewMux(Config{})
	defer m.Close()
	s, err := m.NewStream(StreamConfig{ID: 7})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.NewStream(StreamConfig{ID: 7}); err != ErrIDInUse {
		t.Errorf("same id: %v", err)
	}
	r, err := m.NewStream(StreamConfig{})
	if err != nil || r.ID() == 0 || r.ID() == 7 {
		t.Errorf("id %d, %v", r.ID(), err)
	}
	s.Close()
	if _, err := m.NewStream(StreamConfig{ID: 7}); err != nil {
		t.Errorf("id of a closed stream: %v", err)
	}
	m.Close()
	if _, err := m.NewStream(StreamConfig{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read after the mux's Close: %v", err)
	}
}

// TestDrain waits for what was closed, and for nothing else.
func TestDrain(t *testing.T) {
	world(t, vnet.Link{Latency: 50 * ms, Loss: 0.05}, func(t *testing.T, n *vnet.Network, a, b *side) {
		x, y := pair(t, a, b)
		open, _ := pair(t, a, b)
		out := pattern(1, 200_000)
		x.Write(out)
		x.Close()
		got := make(chan error, 1)
		go func() {
			got <- expect(y, out)
			y.Close()
		}()
		if err := a.mux.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !isOver(x) || x.Err() != nil || isOver(open) {
			t.Errorf("closed stream over: %v (%v), open stream over: %v", isOver(x), x.Err(), isOver(open))
		}
		if err := <-got; err != nil {
			t.Error(err)
		}
		b.host.SetUp(false)
		open.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.mux.Drain(ctx); err != context.DeadlineExceeded {
			t.Errorf("Drain: %v", err)
		}
	})
}

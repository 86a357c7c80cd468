package udx

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// exchange sends bytes both ways, ends both directions, and reports the first
// error of any of the four procedures.
func exchange(x, y *Stream, there, back []byte) error {
	errs := make(chan error, 4)
	for _, e := range []struct {
		s         *Stream
		out, want []byte
	}{{x, there, back}, {y, back, there}} {
		go func() {
			_, err := e.s.Write(e.out)
			errs <- errors.Join(err, e.s.CloseWrite())
		}()
		go func() { errs <- expect(e.s, e.want) }()
	}
	var all error
	for range 4 {
		all = errors.Join(all, <-errs)
	}
	return all
}

// TestTransferOverLinks: whatever the link does, the bytes arrive, in order,
// both streams end, and it does not take forever.
func TestTransferOverLinks(t *testing.T) {
	for _, c := range []struct {
		name  string
		link  vnet.Link
		limit time.Duration // for 4 MiB there and 1 MiB back
	}{
		{"near", vnet.Link{Latency: 10 * ms}, time.Second},
		{"near, loss 0.2 %", vnet.Link{Latency: 10 * ms, Loss: 0.002}, time.Second},
		{"near, loss 2 %", vnet.Link{Latency: 10 * ms, Loss: 0.02}, 2 * time.Second},
		{"near, loss 10 %", vnet.Link{Latency: 10 * ms, Loss: 0.1}, 4 * time.Second},
		{"far", vnet.Link{Latency: 100 * ms}, 4 * time.Second},
		{"far, loss 0.2 %", vnet.Link{Latency: 100 * ms, Loss: 0.002}, 5 * time.Second},
		{"far, loss 2 %", vnet.Link{Latency: 100 * ms, Loss: 0.02}, 8 * time.Second},
		{"far, loss 10 %", vnet.Link{Latency: 100 * ms, Loss: 0.1}, 20 * time.Second},
		{"reordering", vnet.Link{Latency: 20 * ms, Jitter: 2 * ms, Reorder: 0.05, ReorderBy: 10 * ms}, 3 * time.Second},
		{"duplication", vnet.Link{Latency: 20 * ms, Duplicate: 0.2}, 2 * time.Second},
		{"everything", vnet.Link{Latency: 30 * ms, Jitter: 5 * ms, Loss: 0.03, Duplicate: 0.03, Reorder: 0.03, ReorderBy: 40 * ms}, 8 * time.Second},
		{"narrow", vnet.Link{Latency: 20 * ms, Rate: 2_000_000, Queue: 80_000}, 4 * time.Second},
		{"narrow, shallow queue", vnet.Link{Latency: 50 * ms, Rate: 1_250_000, Queue: 30_000}, 8 * time.Second},
		{"small packets", vnet.Link{Latency: 10 * ms, MTU: 1280}, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			world(t, c.link, func(t *testing.T, n *vnet.Network, a, b *side) {
				x, y := pair(t, a, b)
				start := time.Now()
				if err := exchange(x, y, pattern(1, 4<<20), pattern(2, 1<<20)); err != nil {
					t.Error(err)
				}
				<-x.Done()
				<-y.Done()
				took := time.Since(start)
				s := x.Stats()
				t.Logf("%v, %.2f MB/s, %d packets, %d sent again, %+v", took, 4.194/took.Seconds(), s.PacketsSent, s.Retransmits, n.Stats())
				if took > c.limit {
					t.Errorf("took %v, more than %v", took, c.limit)
				}
				if x.Err() != nil || y.Err() != nil {
					t.Errorf("ended with %v and %v", x.Err(), y.Err())
				}
			})
		})
	}
}

// TestNoSpuriousRetransmissions: a perfect link needs none.
func TestNoSpuriousRetransmissions(t *testing.T) {
	for _, latency := range []time.Duration{100 * time.Microsecond, 5 * time.Millisecond, 100 * time.Millisecond} {
		t.Run(latency.String(), func(t *testing.T) {
			world(t, vnet.Link{Latency: latency}, func(t *testing.T, n *vnet.Network, a, b *side) {
				x, y := pair(t, a, b)
				const size = 8 << 20
				if err := exchange(x, y, pattern(1, size), nil); err != nil {
					t.Error(err)
				}
				s := x.Stats()
				if s.Retransmits > 0 {
					t.Errorf("%d packets sent again", s.Retransmits)
				}
				if least := uint64(size / 1452); s.PacketsSent > least*105/100 {
					t.Errorf("%d packets, %d would do", s.PacketsSent, least)
				}
			})
		})
	}
}

func TestHalfClose(t *testing.T) {
	world(t, vnet.Link{Latency: 10 * time.Millisecond, Loss: 0.05}, func(t *testing.T, n *vnet.Network, a, b *side) {
		x, y := pair(t, a, b)
		io.WriteString(x, "request")
		x.CloseWrite()
		if err := expect(y, []byte("request")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // the other direction stays open
		if isOver(x) || isOver(y) {
			t.Fatal("over after one END")
		}
		answer := pattern(3, 300_000)
		go func() {
			y.Write(answer)
			y.Close()
		}()
		if err := expect(x, answer); err != nil {
			t.Fatal(err)
		}
		<-x.Done()
		<-y.Done()
		if x.Err() != nil || y.Err() != nil {
			t.Errorf("ended with %v and %v", x.Err(), y.Err())
		}
	})
}

// TestCloseDelivers: Close returns at once and loses nothing, whoever is first.
func TestCloseDelivers(t *testing.T) {
	for _, both := range []bool{false, true} {
		t.Run(fmt.Sprintf("simultaneous %v", both), func(t *testing.T) {
			world(t, vnet.Link{Latency: 50 * time.Millisecond, Loss: 0.05}, func(t *testing.T, n *vnet.Network, a, b *side) {
				x, y := pair(t, a, b)
				out := pattern(4, 200_000)
				if _, err := x.Write(out); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				x.Close()
				if time.Since(start) > 0 {
					t.Error("Close waited")
				}
				if both {
					y.Close()
				} else {
					if err := expect(y, out); err != nil {
						t.Error(err)
					}
					y.Close()
				}
				<-x.Done()
				<-y.Done()
				if x.Err() != nil || y.Err() != nil {
					t.Errorf("ended with %v and %v", x.Err(), y.Err())
				}
			})
		})
	}
}

// TestDestroyAnywhere: a DESTROY at any point of a transfer ends both streams,
// and nobody waits for longer than a vanished peer would make it.
func TestDestroyAnywhere(t *testing.T) {
	for after := time.Duration(0); after < 300*time.Millisecond; after += 23 * time.Millisecond {
		t.Run(after.String(), func(t *testing.T) {
			world(t, vnet.Link{Latency: 20 * time.Millisecond, Loss: 0.02, Rate: 5_000_000}, func(t *testing.T, n *vnet.Network, a, b *side) {
				x, y := pair(t, a, b)
				done := make(chan error, 1)
				go func() { done <- exchange(x, y, pattern(5, 1<<20), pattern(6, 1<<20)) }()
				time.Sleep(after)
				x.Destroy(nil)
				err := <-done
				<-x.Done()
				<-y.Done()
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("x's user is told %v", err)
				}
				if e := y.Err(); !errors.Is(e, syscall.ECONNRESET) && !errors.Is(e, syscall.ETIMEDOUT) {
					t.Errorf("y ended with %v", e)
				}
			})
		})
	}
}

// TestLostFinalAck: TIME-WAIT repeats the last acknowledgement (vector
// final_ack_lost, in which the reference's peer ends with ETIMEDOUT).
func TestLostFinalAck(t *testing.T) {
	world(t, vnet.Link{Latency: 10 * time.Millisecond}, func(t *testing.T, n *vnet.Network, a, b *side) {
		x, y := pair(t, a, b)
		x.CloseWrite()
		if err := expect(y, nil); err != nil {
			t.Fatal(err)
		}
		y.CloseWrite()
		// The END is on its way; what x answers is lost.
		time.Sleep(10*time.Millisecond - 1)
		a.host.SetLinks(vnet.Link{Latency: 10 * time.Millisecond, Loss: 1}, vnet.Link{Latency: 10 * time.Millisecond})
		<-x.Done()
		time.Sleep(50 * time.Millisecond)
		a.host.SetLink(vnet.Link{Latency: 10 * time.Millisecond})
		start := time.Now()
		<-y.Done()
		if y.Err() != nil || time.Since(start) > time.Second {
			t.Errorf("y ended with %v after %v", y.Err(), time.Since(start))
		}
	})
}

// TestPathChange moves both ends from a relay to the direct path while data
// flows (§2.10).
func TestPathChange(t *testing.T) {
	world(t, vnet.Link{Latency: 10 * time.Millisecond, Loss: 0.01}, func(t *testing.T, n *vnet.Network, a, b *side) {
		r := newSide(t, n)
		defer r.mux.Close()
		any := func(*Stream, udp.Conn, netip.AddrPort) bool { return true }
		x, _ := a.mux.NewStream(StreamConfig{Accept: any})
		y, _ := b.mux.NewStream(StreamConfig{Accept: any})
		rx, _ := r.mux.NewStream(StreamConfig{})
		ry, _ := r.mux.NewStream(StreamConfig{})
		connect(t, x, a.conn, rx, r.addr())
		connect(t, y, b.conn, ry, r.addr())
		connect(t, rx, r.conn, x, a.addr())
		connect(t, ry, r.conn, y, b.addr())
		if err := errors.Join(rx.RelayTo(ry), ry.RelayTo(rx)); err != nil {
			t.Fatal(err)
		}
		if err := rx.RelayTo(ry); err == nil {
			t.Error("relayed twice")
		}
		if _, err := rx.Write([]byte("x")); err == nil {
			t.Error("wrote to a relayed stream")
		}
		done := make(chan error, 1)
		go func() { done <- exchange(x, y, pattern(7, 4<<20), pattern(8, 4<<20)) }()
		time.Sleep(100 * time.Millisecond)
		direct := a.listen(t) // another socket, too
		cx, err := x.ChangeRemote(direct, y.ID(), b.addr())
		if err != nil {
			t.Fatal(err)
		}
		cy, err := y.ChangeRemote(b.conn, x.ID(), netip.AddrPortFrom(a.host.Addr(), direct.LocalAddr().Port()))
		if err != nil {
			t.Fatal(err)
		}
		<-cx
		<-cy
		before := rx.Stats().PacketsReceived
		rx.Destroy(nil)
		<-ry.Done()
		if err := <-done; err != nil {
			t.Error(err)
		}
		<-x.Done()
		<-y.Done()
		if x.Err() != nil || y.Err() != nil {
			t.Errorf("ended with %v and %v", x.Err(), y.Err())
		}
		if before == 0 {
			t.Error("nothing went through the relay")
		}
	})
}

// TestRelay: all of a conversation passes, DESTROY included, and the relay's
// streams end with it.
func TestRelay(t *testing.T) {
	relayed := func(t *testing.T, n *vnet.Network, a, b *side, f func(x, y, rx, ry *Stream)) {
		r := newSide(t, n)
		defer r.mux.Close()
		// As blind-relay does it: connected by the first packet of each side.
		var x, y *Stream
		rx, _ := r.mux.NewStream(StreamConfig{Accept: func(rx *Stream, c udp.Conn, from netip.AddrPort) bool {
			return rx.Connect(c, x.ID(), from, ConnectOptions{}) == nil
		}})
		ry, _ := r.mux.NewStream(StreamConfig{Accept: func(ry *Stream, c udp.Conn, from netip.AddrPort) bool {
			return ry.Connect(c, y.ID(), from, ConnectOptions{}) == nil
		}})
		if err := errors.Join(rx.RelayTo(ry), ry.RelayTo(rx)); err != nil {
			t.Fatal(err)
		}
		x, _ = a.mux.NewStream(StreamConfig{})
		y, _ = b.mux.NewStream(StreamConfig{})
		connect(t, x, a.conn, rx, r.addr())
		connect(t, y, b.conn, ry, r.addr())
		f(x, y, rx, ry)
	}
	link := vnet.Link{Latency: 10 * time.Millisecond, Loss: 0.02}
	t.Run("transfer", func(t *testing.T) {
		world(t, link, func(t *testing.T, n *vnet.Network, a, b *side) {
			relayed(t, n, a, b, func(x, y, rx, ry *Stream) {
				if err := exchange(x, y, pattern(9, 2<<20), pattern(10, 2<<20)); err != nil {
					t.Error(err)
				}
				<-x.Done()
				<-y.Done()
				if isOver(rx) || isOver(ry) {
					t.Error("the relay saw the end")
				}
				<-rx.Done() // for want of packets
				<-ry.Done()
				if rx.Err() == nil && ry.Err() == nil {
					t.Error("idle relay ended without an error")
				}
			})
		})
	})
	t.Run("destroy", func(t *testing.T) {
		world(t, vnet.Link{Latency: 10 * time.Millisecond}, func(t *testing.T, n *vnet.Network, a, b *side) {
			relayed(t, n, a, b, func(x, y, rx, ry *Stream) {
				io.WriteString(x, "hello")
				io.WriteString(y, "hello")
				time.Sleep(2 * time.Second)
				x.Destroy(nil)
				<-y.Done()
				<-rx.Done()
				<-ry.Done()
				if !errors.Is(y.Err(), syscall.ECONNRESET) || !errors.Is(rx.Err(), syscall.ECONNRESET) || ry.Err() != nil {
					t.Errorf("y ended with %v, rx with %v, ry with %v", y.Err(), rx.Err(), ry.Err())
				}
			})
		})
	})
}

// TestSlowReader: the sender waits for a reader that pauses, keeps no more than
// the window, and goes on.
func TestSlowReader(t *testing.T) {
	world(t, vnet.Link{Latency: 10 * time.Millisecond, Loss: 0.02}, func(t *testing.T, n *vnet.Network, a, b *side) {
		x, y := pair(t, a, b)
		out := pattern(11, 3<<20)
		go func() {
			x.Write(out)
			x.Close()
		}()
		time.Sleep(time.Minute)
		if s := y.Stats(); s.Unread < initialWindow*9/10 || s.Unread > initialWindow+pushRoom {
			t.Errorf("%d bytes wait", s.Unread)
		}
		if isOver(x) {
			t.Fatalf("the sender gave up: %v", x.Err())
		}
		var got []byte
		b16 := make([]byte, 16<<10)
		for {
			k, err := y.Read(b16)
			got = append(got, b16[:k]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		if string(got) != string(out) {
			t.Error("bytes differ")
		}
		y.Close()
		<-x.Done()
		<-y.Done()
	})
}

// TestVanishedPeer: with data in flight a stream notices within 13 s or so; idle
// it never does, keep-alive or not.
func TestVanishedPeer(t *testing.T) {
	world(t, vnet.Link{Latency: 10 * time.Millisecond}, func(t *testing.T, n *vnet.Network, a, b *side) {
		x, y := pair(t, a, b)
		io.WriteString(x, "hello")
		io.WriteString(y, "hello")
		y.SetKeepAlive(5 * time.Second)
		time.Sleep(time.Second)
		b.host.SetUp(false)
		start := time.Now()
		io.WriteString(x, "still there?")
		<-x.Done()
		if took := time.Since(start); took < 12*time.Second || took > 15*time.Second {
			t.Errorf("noticed after %v", took)
		}
		if !errors.Is(x.Err(), syscall.ETIMEDOUT) {
			t.Errorf("ended with %v", x.Err())
		}
		time.Sleep(time.Hour)
		if isOver(y) {
			t.Errorf("idle stream ended with %v", y.Err())
		}
	})
}

// TestManyStreams: streams share sockets without mixing anything up.
func TestManyStreams(t *testing.T) {
	world(t, vnet.Link{Latency: 5 * time.Millisecond, Loss: 0.01, Rate: 20_000_000, Queue: 1 << 20}, func(t *testing.T, n *vnet.Network, a, b *side) {
		const streams = 50
		errs := make(chan error, streams)
		for i := range streams {
			x, y := pair(t, a, b)
			go func() {
				err := exchange(x, y, pattern(uint64(i), 50_000+i*1000), pattern(uint64(i)+100, 30_000))
				<-x.Done()
				<-y.Done()
				errs <- errors.Join(err, x.Err(), y.Err())
			}()
		}
		for range streams {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestConcurrentUse does everything to streams at once, from many goroutines; the
// race detector and the bubble's deadlock detector judge.
func TestConcurrentUse(t *testing.T) {
	world(t, vnet.Link{Latency: 2 * ms, Loss: 0.02, Reorder: 0.05}, func(t *testing.T, n *vnet.Network, a, b *side) {
		spare := a.listen(t)
		var all sync.WaitGroup
		for i := range 20 {
			x, y := pair(t, a, b)
			r := rand.New(rand.NewPCG(uint64(i), 7))
			pause := func() { time.Sleep(time.Duration(r.IntN(40)) * ms) }
			pauses := make([]time.Duration, 12)
			for k := range pauses {
				pauses[k] = time.Duration(r.IntN(60)) * ms
			}
			for k, f := range []func(){
				func() { x.Write(pattern(1, 100_000)) },
				func() { y.Write(pattern(2, 300_000)) },
				func() { io.Copy(io.Discard, x) },
				func() { io.Copy(io.Discard, y) },
				func() {
					x.SendMessage([]byte("m"))
					x.SetReadDeadline(time.Now().Add(time.Minute))
					y.SetReadDeadline(time.Now().Add(time.Minute))
				},
				func() { y.SetWriteDeadline(time.Now().Add(30 * ms)) },
				func() { x.SetKeepAlive(3 * ms); x.Stats(); x.Err(); x.SinceReceived() },
				func() { x.ChangeRemote(spare, y.ID(), b.addr()) },
				func() { x.CloseWrite() },
				func() { y.ReadMessage(make([]byte, 10)) },
				func() { y.Close() },
				func() {
					if i%3 == 0 {
						x.Destroy(nil)
					}
				},
			} {
				all.Go(func() {
					time.Sleep(pauses[k])
					f()
				})
			}
			pause()
			if i == 10 {
				all.Go(func() {
					time.Sleep(50 * ms)
					a.mux.DestroyAll(nil)
				})
			}
		}
		all.Wait()
	})
}

package udx

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/internal/seq"
	"github.com/warren-dht/warren/udp"
)

// full is a payload that fills a packet.
var full = strings.Repeat("x", 1152)

// TestAckPolicy: docs/spec/udx.md §6, "Acknowledge ... soon".
func TestAckPolicy(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		w.in(pkt(flagData, 0, 0, "small"))
		w.idle("a lone small packet's acknowledgement waits")
		time.Sleep(maxAckDelay)
		w.want("for no more than a millisecond", "ACK seq 0 ack 1")

		w.in(pkt(flagData, 1, 0, "small"))
		w.write("answer")
		w.want("data carries it", `DATA seq 0 ack 2 "answer"`)
		time.Sleep(2 * maxAckDelay)
		w.idle("and no other follows")
		w.in(pkt(0, 2, 1, ""))

		w.in(pkt(flagData, 2, 1, full))
		w.want("a full packet is acknowledged at once", "ACK seq 1 ack 3")
		w.in(pkt(flagData, 3, 1, "a"), pkt(flagData, 4, 1, "b"), pkt(flagData, 5, 1, "c"))
		w.want("several packets at once, together", "ACK seq 1 ack 6")
		w.in(pkt(flagData, 5, 1, "c"))
		w.want("a duplicate at once", "ACK seq 1 ack 6")
		w.in(pkt(flagData, 7, 1, "e"))
		w.want("a hole at once", "SACK seq 1 ack 6 [7,8)")
		w.in(pkt(flagData, 6, 1, "d"))
		w.want("and when it is filled", "ACK seq 1 ack 8")
		w.in(pkt(flagHeartbeat, 8, 1, ""), pkt(flagHeartbeat, 8, 1, ""), pkt(flagHeartbeat, 8, 1, ""))
		w.want("heartbeats once a batch", "ACK seq 1 ack 8")
		w.in(pkt(flagEnd, 8, 1, ""))
		w.want("END at once", "ACK seq 1 ack 9")
		if got := w.read(); got != "smallsmall"+full+"abcde" {
			t.Errorf("read %q", got)
		}
	})
}

// TestSACKBlocks: the captured sack_max_blocks, whose peer sends every other of
// 60 packets and then the first (§1.5: at most 50 blocks, ascending).
func TestSACKBlocks(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		var sc scenario
		for _, s := range loadCaptures(t).Scenarios {
			if s.Name == "sack_max_blocks" {
				sc = s
			}
		}
		var got []packet
		for i := range 60 {
			w.in(pkt(flagData, seq.Number(2*i+1), 0, "x"))
			got = append(got, w.out()...)
		}
		w.in(pkt(flagData, 0, 0, "x"))
		got = append(got, w.out()...)
		if len(got) != 61 {
			t.Fatalf("%d replies, want 61", len(got))
		}
		for i, n := range []int{0, 1, 48, 49, 50, 59, 60} {
			want, err := parsePacket(sc.Packets[i].Hex)
			if err != nil {
				t.Fatal(err)
			}
			if want.sackBlocks() == maxSACKBlocks && n != 49 {
				// More than fit: TestMoreBlocksThanFit.
				if got[n].sackBlocks() != maxSACKBlocks || got[n].ack != want.ack {
					t.Errorf("reply %d: %s", n, show(got[n]))
				}
				continue
			}
			if g, w := show(got[n]), show(want); g != w {
				t.Errorf("reply %d: %s, want %s", n, g, w)
			}
		}
	})
}

// TestMoreBlocksThanFit: what has just come is reported, wherever it lies.
func TestMoreBlocksThanFit(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		for i := range 100 {
			w.in(pkt(flagData, seq.Number(4*i+1), 0, "x"))
		}
		w.out()
		w.in(pkt(flagData, 202, 0, "x")) // behind 201, of the 50th block
		out := w.out()
		if len(out) != 1 || out[0].sackBlocks() != maxSACKBlocks {
			t.Fatalf("sent %v", out)
		}
		want := map[seq.Range]bool{{Start: 201, End: 203}: true, {Start: 397, End: 398}: true, {Start: 1, End: 2}: true}
		last := seq.Number(0)
		for i := range out[0].sackBlocks() {
			b := out[0].sackBlock(i)
			if b.Start.LessEq(last) {
				t.Errorf("block %v after %d", b, last)
			}
			last = b.End
			delete(want, b)
		}
		if len(want) > 0 {
			t.Errorf("not reported: %v", want)
		}
	})
}

// TestBlindSACK: a packet with all the blocks that there may be does not say
// that what lies above them is lost.
func TestBlindSACK(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		sent := 0
		var ack packet
		for round := 0; sent < 130; round++ { // open the window
			for i := range 10 << round {
				w.write(fmt.Sprint(i))
				sent++
			}
			w.out()
			time.Sleep(20 * time.Millisecond)
			ack = pkt(0, 0, seq.Number(sent), "")
			w.in(ack)
		}
		base := seq.Number(sent)
		for i := range 120 {
			w.write(fmt.Sprint(i))
		}
		time.Sleep(20 * time.Millisecond)
		w.out()
		for i := range maxSACKBlocks {
			n := base + 1 + 2*seq.Number(i)
			ack = sacked(ack, seq.Range{Start: n, End: n + 1})
		}
		w.in(ack)
		time.Sleep(8 * time.Millisecond)
		again := w.out()
		if len(again) == 0 {
			t.Error("the holes are not filled")
		}
		for _, p := range again {
			if p.flags&flagData != 0 && !p.seq.Less(base+100) && p.seq.Less(base+120) {
				t.Errorf("sent again what nothing is known of: %d", p.seq-base)
			}
		}
	})
}

// TestRetransmission: losses are repaired with the same number and payload.
func TestRetransmission(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		for _, s := range []string{"0", "1", "2", "3"} {
			w.write(s)
		}
		w.want("each write leaves at once", `DATA seq 0 ack 0 "0"`, `DATA seq 1 ack 0 "1"`, `DATA seq 2 ack 0 "2"`, `DATA seq 3 ack 0 "3"`)
		time.Sleep(20 * time.Millisecond)
		w.in(sacked(pkt(0, 0, 1, ""), seq.Range{Start: 2, End: 4}))
		w.idle("1 may be late by the reordering window")
		time.Sleep(5 * time.Millisecond)
		w.want("a quarter of the round trip", `DATA seq 1 ack 0 "1"`)
		time.Sleep(20 * time.Millisecond)
		w.in(pkt(0, 0, 4, ""))
		if s := w.s.Stats(); s.InFlight != 0 || s.Retransmits != 1 || s.Recoveries != 1 || s.Timeouts != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestTailLossProbe: §3.5.
func TestTailLossProbe(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		w.write("a")
		time.Sleep(20 * time.Millisecond)
		w.in(pkt(0, 0, 1, ""))
		w.out()
		w.write("b")
		w.want("sent", `DATA seq 1 ack 0 "b"`)
		time.Sleep(40 * time.Millisecond)
		w.idle("not before two round trips and the peer's delay")
		time.Sleep(2 * time.Millisecond)
		w.want("then the last packet once more", `DATA seq 1 ack 0 "b"`)
		time.Sleep(250 * time.Millisecond)
		w.idle("and no further probe")
		time.Sleep(50 * time.Millisecond)
		w.want("but a timeout", `DATA seq 1 ack 0 "b"`)
	})
}

// TestTimeout: §3.7: a peer that never answers is given up after 13 s, and
// not before it was asked as often as the reference does.
func TestTimeout(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		start := time.Now()
		w.write("anybody there?")
		_, err := w.s.Read(make([]byte, 1))
		if !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("Read: %v", err)
		}
		var nerr net.Error
		if !errors.As(err, &nerr) || !nerr.Timeout() {
			t.Errorf("%v is no timeout", err)
		}
		if took := time.Since(start); took != 13*time.Second {
			t.Errorf("took %v", took)
		}
		sent := w.out()
		if len(sent) < 7 {
			t.Errorf("asked %d times", len(sent))
		}
		for _, p := range sent {
			if show(p) != `DATA seq 0 ack 0 "anybody there?"` {
				t.Errorf("sent %s", show(p))
			}
		}
		if !isOver(w.s) || w.s.Err() == nil {
			t.Error("not over")
		}
		if _, err := w.s.Write([]byte("x")); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("Write: %v", err)
		}
	})
}

// TestReceiveWindow: the window is honest, never a sliver, and its opening is told.
func TestReceiveWindow(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		payload := strings.Repeat("y", 1452)
		n := seq.Number(0)
		last := uint32(initialWindow)
		for last > 0 {
			w.in(pkt(flagData, n, 0, payload))
			n++
			out := w.out()
			if len(out) != 1 || out[0].ack != n {
				t.Fatalf("packet %d: sent %v", n, out)
			}
			last = out[0].rwnd
			free := initialWindow - int(n)*len(payload)
			if last > 0 && (last < fullPacket || int(last) != free) || last == 0 && free >= fullPacket {
				t.Fatalf("window %d with %d free", last, free)
			}
		}
		// §10, 6: peers before 1.21 push DATA into a closed window.
		for range 2 * largeSlab / 1452 {
			w.in(pkt(flagData, n, 0, payload))
			for _, p := range w.out() {
				n = p.ack
			}
		}
		if unread := w.s.Stats().Unread; unread > initialWindow+largeSlab+1452 {
			t.Errorf("keeps %d bytes", unread)
		}
		total := 0
		b := make([]byte, 16<<10)
		for total < int(n)*len(payload) {
			k, err := w.s.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			total += k
			for _, p := range w.out() {
				if p.flags != 0 || p.ack != n || p.rwnd < initialWindow/8 {
					t.Errorf("update %s window %d", show(p), p.rwnd)
				}
				last = p.rwnd
			}
		}
		if last < initialWindow/4 {
			t.Errorf("reading all left the window at %d", last)
		}
	})
}

// TestZeroWindow: §1.9. The peer is asked in both ways, and an unsolicited ACK
// reopens.
func TestZeroWindow(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		w.write("a")
		closed := pkt(0, 0, 1, "")
		closed.rwnd = 0
		w.in(closed)
		w.out()
		w.write("b")
		w.idle("the window is closed")
		time.Sleep(minRTO)
		w.want("asked after a timeout", "HEARTBEAT seq 1 ack 0")
		w.in(closed)
		time.Sleep(2 * minRTO)
		w.want("and in the way that old peers understand", "DATA seq 0 ack 0")
		w.in(closed)
		time.Sleep(2 * minRTO)
		w.want("in turns", "HEARTBEAT seq 1 ack 0")
		time.Sleep(time.Hour)
		if isOver(w.s) {
			t.Fatal("a closed window is no error")
		}
		w.out()
		w.in(pkt(0, 0, 1, ""))
		w.want("it opens", `DATA seq 1 ack 0 "b"`)
		small := pkt(0, 0, 2, "")
		small.rwnd = 1
		w.in(small)
		w.write("c")
		w.write("d")
		w.want("any room at all is room for one packet", `DATA seq 2 ack 0 "c"`)
		w.in(pkt(0, 0, 3, ""))
		w.want("then the rest", `DATA seq 3 ack 0 "d"`)
	})
}

// TestOldWindow: §10, 20: a reordered packet must not restore an old window.
func TestOldWindow(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		w.write("a")
		w.out()
		newer, older := pkt(flagData, 1, 1, "2"), pkt(flagData, 0, 0, "1")
		newer.rwnd = 0
		w.in(newer)
		w.in(older)
		w.out()
		w.write("b")
		w.idle("the newer window holds")
	})
}

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

// TestPaths: packets are taken from the peer's path alone, unless Accept agrees.
func TestPaths(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		early := pkt(flagData, 0, 0, "early")
		if rest := w.raw(peerAddr, early.Append(nil)); len(rest) != 0 {
			t.Error("not claimed before Connect")
		}
		w.connect()
		w.raw(otherAddr, early.Append(nil))
		w.idle("a stranger's packet is not answered")
		if got := w.read(); !strings.Contains(got, "timeout") {
			t.Errorf("read %q", got)
		}
	})

	// §2.5: the first packet completes the connection.
	var s *Stream
	var asked []netip.AddrPort
	onWire(t, StreamConfig{Accept: func(c udp.Conn, from netip.AddrPort) bool {
		asked = append(asked, from)
		if from != peerAddr {
			return false
		}
		if err := s.Connect(c, remoteID, from, ConnectOptions{}); err != nil {
			t.Error(err)
		}
		return true
	}}, func(w *wire) {
		s = w.s
		w.write("queued before")
		p := pkt(flagData, 0, 0, full)
		raw := p.Append(nil)
		w.raw(otherAddr, raw, raw, raw)
		w.idle("rejected")
		w.raw(peerAddr, raw)
		w.want("connected, and the packet taken", `DATA seq 0 ack 0 "queued before"`, "ACK seq 1 ack 1")
		w.raw(peerAddr, raw)
		if !slices.Equal(asked, []netip.AddrPort{otherAddr, peerAddr}) {
			t.Errorf("asked about %v", asked)
		}
		if w.read() != full {
			t.Error("data lost")
		}
	})

	// Data before Connect is delivered; its acknowledgement waits (§2.5).
	onWire(t, StreamConfig{Accept: func(udp.Conn, netip.AddrPort) bool { return true }}, func(w *wire) {
		w.in(pkt(flagData, 0, 0, "early"))
		if got := w.read(); got != "early" {
			t.Errorf("read %q", got)
		}
		time.Sleep(50 * time.Millisecond)
		w.idle("where to?")
		w.connect()
		w.want("there", "ACK seq 0 ack 1")
		if err := w.s.Connect(w.conn, remoteID, peerAddr, ConnectOptions{}); err != ErrConnected {
			t.Errorf("second Connect: %v", err)
		}
	})
}

func TestChangeRemote(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		if _, err := w.s.ChangeRemote(w.conn, 33, otherAddr); err != ErrNotConnected {
			t.Errorf("before Connect: %v", err)
		}
		w.connect()
		w.write("a")
		w.out()
		done, err := w.s.ChangeRemote(w.conn, 44, peerAddr)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := w.s.ChangeRemote(w.conn, 33, otherAddr); err != nil || again != done {
			t.Errorf("while one is under way: %v", err)
		}
		w.write("b")
		w.mustGo("new data", otherAddr, 33)
		w.in(pkt(flagData, 0, 0, full))
		w.mustGo("acknowledgements", otherAddr, 33)
		time.Sleep(initialRTO)
		w.mustGo("retransmissions", otherAddr, 33)
		select {
		case <-done:
			t.Error("complete before the acknowledgement")
		default:
		}
		if n := w.s.Stats().MTU; n != baseMTU {
			t.Errorf("MTU %d", n)
		}
		ack := pkt(0, 1, 1, "")
		w.raw(otherAddr, ack.Append(nil))
		synctest.Wait()
		select {
		case <-done:
		default:
			t.Error("not complete")
		}
		if w.s.RemoteAddr().String() != otherAddr.String() {
			t.Errorf("remote %v", w.s.RemoteAddr())
		}
	})
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		done, err := w.s.ChangeRemote(w.conn, 33, otherAddr)
		if err != nil {
			t.Fatal(err)
		}
		<-done // nothing was in flight
	})
}

// mustGo takes what was sent, at least one packet, and checks where it went.
func (w *wire) mustGo(what string, to netip.AddrPort, id uint32) {
	w.Helper()
	synctest.Wait()
	w.conn.mu.Lock()
	defer w.conn.mu.Unlock()
	if len(w.conn.sent) == 0 {
		w.Errorf("%s: nothing sent", what)
	}
	for _, d := range w.conn.sent {
		if d.Peer != to || packetStreamID(d.Payload) != id {
			w.Errorf("%s: went to %v, stream %d", what, d.Peer, packetStreamID(d.Payload))
		}
	}
	w.conn.sent = nil
}

func TestKeepAlive(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		w.s.SetKeepAlive(100 * time.Millisecond)
		time.Sleep(350 * time.Millisecond)
		hb := "HEARTBEAT seq 0 ack 0"
		w.want("while idle", hb, hb, hb)
		w.write("x")
		time.Sleep(250 * time.Millisecond)
		w.want("but not while something is in flight", `DATA seq 0 ack 0 "x"`)
		w.in(pkt(0, 0, 1, ""))
		time.Sleep(150 * time.Millisecond)
		w.want("again", "HEARTBEAT seq 1 ack 0")
		w.s.SetKeepAlive(0)
		time.Sleep(time.Second)
		w.idle("no longer")
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

// TestMTUSearch: a padded data packet finds out what the path takes (§1.8).
func TestMTUSearch(t *testing.T) {
	for _, c := range []struct {
		name       string
		path, want int // sizes of IP packets
	}{
		{"1500", 1500, 1500},
		{"1280", 1280, 1280},
		{"1400", 1400, 1400},
		{"1200", 1200, 1200},
	} {
		t.Run(c.name, func(t *testing.T) {
			onWire(t, StreamConfig{}, func(w *wire) {
				w.connect()
				ack := seq.Number(0)
				have := seq.Set{}
				for range 80 {
					w.write(strings.Repeat("z", 4000))
					for range 3 {
						time.Sleep(10 * time.Millisecond)
						for _, p := range w.out() {
							if p.flags&flagData != 0 && headerSize+28+int(p.offset)+len(p.payload) <= c.path {
								have.Add(p.seq)
							}
						}
						if len(have) > 0 && have[0].Start == 0 {
							ack = have[0].End
						}
						a := pkt(0, 0, ack, "")
						for _, r := range have[min(1, len(have)):] {
							a = sacked(a, r)
						}
						w.in(a)
					}
				}
				if got := w.s.Stats().MTU; got > c.path || got < c.want-mtuMinStep {
					t.Errorf("found %d", got)
				}
				if s := w.s.Stats(); s.Recoveries > 0 {
					t.Errorf("a lost probe counts as congestion: %+v", s)
				}
			})
		})
	}
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

package udx

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/warren-dht/warren/internal/seq"
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

// TestSelectiveForever: a peer that acknowledges everything but the first packet
// gets no more than a bounded span of numbers.
func TestSelectiveForever(t *testing.T) {
	p := newPump(t, [2]uint32{0, 0})
	e := &p.ends[0]
	stuck := 0
	for stuck < 50 {
		nxt := e.snd.nxt
		p.write(0, 200_000)
		p.advance(ms / 2)
		ack := pkt(0, 0, 0, "")
		ack.rwnd = 1 << 31
		if nxt > 1 {
			ack = sacked(ack, seq.Range{Start: 1, End: e.snd.nxt})
		}
		ack.streamID = 1
		p.deliver(0, ack.Append(nil))
		p.ends[1].link = nil
		if e.done {
			break
		}
		if stuck++; e.snd.nxt != nxt {
			stuck = 0
		}
		if n := e.snd.nxt.Sub(e.snd.una); n > maxSpan {
			t.Fatalf("%d numbers in use", n)
		}
	}
	if e.snd.nxt < maxSpan {
		t.Errorf("stopped at %d", e.snd.nxt)
	}
}

// TestLateAck: RFC 6298, section 3 (Karn's algorithm). An acknowledgement that
// covers a packet sent again says nothing of the round trip, not even by packets
// that were sent once: an earlier one was lost.
func TestLateAck(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		w.write(strings.Repeat(full, 3))
		time.Sleep(initialRTO + 200*ms)
		if s := w.s.Stats(); s.Timeouts != 1 || s.Retransmits == 0 {
			t.Fatalf("%+v", s)
		}
		w.in(pkt(0, 0, 3, ""))
		if s := w.s.Stats(); s.RTT != 0 || s.InFlight != 0 {
			t.Errorf("after the late acknowledgement: %+v", s)
		}
		w.write("x")
		time.Sleep(200 * ms)
		w.in(pkt(0, 0, 4, ""))
		if s := w.s.Stats(); s.RTT != 200*ms || s.RTO != 600*ms {
			t.Errorf("after another: %+v", s)
		}
	})
}

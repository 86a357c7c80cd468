package udx

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/internal/seq"
	"github.com/warren-dht/warren/udp"
)

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
	var asked []netip.AddrPort
	onWire(t, StreamConfig{Accept: func(s *Stream, c udp.Conn, from netip.AddrPort) bool {
		asked = append(asked, from)
		if from != peerAddr {
			return false
		}
		if err := s.Connect(c, remoteID, from, ConnectOptions{}); err != nil {
			t.Error(err)
		}
		return true
	}}, func(w *wire) {
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
	onWire(t, StreamConfig{Accept: func(*Stream, udp.Conn, netip.AddrPort) bool { return true }}, func(w *wire) {
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

// TestChangeRemoteForgets: RFC 9000, section 9.4. Round trip, rate and window
// are those of the present path; what went by the old one teaches nothing.
func TestChangeRemoteForgets(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		for n := range 20 {
			w.write(full)
			time.Sleep(10 * ms)
			w.in(pkt(0, 0, seq.Number(n+1), ""))
		}
		if s := w.s.Stats(); s.RTT != 10*ms || s.Bandwidth == 0 {
			t.Fatalf("before: %+v", s)
		}
		w.write("by the old path")
		w.out()
		time.Sleep(5 * ms)
		w.s.ChangeRemote(w.conn, 33, otherAddr)
		s := w.s.Stats()
		if s.RTT != 0 || s.MinRTT != 0 || s.Bandwidth != 0 || s.Window != bbrInitialWindow || s.State != "STARTUP" {
			t.Errorf("after the change: %+v", s)
		}
		time.Sleep(5 * ms)
		ack := pkt(0, 0, 21, "")
		w.raw(otherAddr, ack.Append(nil))
		if s := w.s.Stats(); s.InFlight != 0 || s.RTT != 0 || s.Bandwidth != 0 || s.Window != bbrInitialWindow {
			t.Errorf("when the old path's packet has arrived: %+v", s)
		}
		w.write("by the new path")
		time.Sleep(80 * ms)
		ack = pkt(0, 0, 22, "")
		w.raw(otherAddr, ack.Append(nil))
		if s := w.s.Stats(); s.RTT != 80*ms || s.MinRTT != 80*ms {
			t.Errorf("when the new path's has: %+v", s)
		}
	})
}

// TestChangeRemoteInTime: a stream that is moved off a dead path shortly before
// it would give up has the usual time on the new one, and uses it soon.
func TestChangeRemoteInTime(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.connect()
		w.write("a")
		time.Sleep(12900 * ms)
		w.out()
		w.s.ChangeRemote(w.conn, 33, otherAddr)
		time.Sleep(initialRTO)
		w.mustGo("retransmission", otherAddr, 33)
		time.Sleep(10 * time.Second)
		if err := w.s.Err(); err != nil {
			t.Fatalf("gave up: %v", err)
		}
		time.Sleep(3 * time.Second)
		if err := w.s.Err(); err != errTimedOut {
			t.Errorf("did not give up: %v", err)
		}
	})
}

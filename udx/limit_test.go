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

// bytesSent takes everything that the stream has sent and counts it.
func (w *wire) bytesSent() (n int) {
	synctest.Wait()
	w.conn.mu.Lock()
	defer w.conn.mu.Unlock()
	for _, d := range w.conn.sent {
		n += len(d.Payload)
	}
	w.conn.sent = nil
	return n
}

// To an address that was not shown to be the peer's, three times the bytes that
// came from there are the most that goes (RFC 9000, section 8.1), whatever comes:
// acknowledgements of all that was sent, which open the window, or bytes behind
// gaps, which draw long acknowledgements.
func TestLimitPath(t *testing.T) {
	const limit = 300
	for _, c := range []struct {
		name   string
		packet func(w *wire, n int) packet
	}{
		{"acknowledgements", func(w *wire, n int) packet {
			w.s.mu.Lock()
			defer w.s.mu.Unlock()
			return pkt(0, 0, w.s.core.snd.nxt, "")
		}},
		{"gaps", func(_ *wire, n int) packet { return pkt(flagData, seq.Number(2*n+1), 0, "x") }},
		{"keep-alives", func(_ *wire, n int) packet { return pkt(flagHeartbeat, 0, 0, "") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			onWire(t, StreamConfig{}, func(w *wire) {
				w.s.LimitPath(limit)
				w.connect()
				go w.s.Write(make([]byte, 1<<20))
				sent, received := w.bytesSent(), 0
				if sent > limit {
					t.Errorf("%d bytes before anything came", sent)
				}
				for n := range 300 {
					p := c.packet(w, n)
					received += len(p.Append(nil))
					w.in(p)
					sent += w.bytesSent()
					time.Sleep(10 * ms)
					sent += w.bytesSent()
					w.s.SendMessage(make([]byte, 1000))
					if sent += w.bytesSent(); sent > limit+3*received {
						t.Fatalf("%d bytes for %d", sent, received)
					}
				}
				before := sent
				w.s.LimitPath(0)
				if w.bytesSent() == 0 {
					t.Error("nothing goes out when the limit ends")
				}
				t.Logf("%d bytes for %d", before, received)
			})
		})
	}
}

// A stream whose peer never shows up on a limited path gives up in the usual time.
func TestLimitedStreamGivesUp(t *testing.T) {
	onWire(t, StreamConfig{}, func(w *wire) {
		w.s.LimitPath(300)
		w.connect()
		w.write(strings.Repeat("x", 5000))
		time.Sleep(20 * time.Second)
		if n := w.bytesSent(); n > 300 {
			t.Errorf("%d bytes went out", n)
		}
		if err := w.s.Err(); err != nil {
			t.Errorf("over before anything was sent: %v", err)
		}
		w.in(pkt(0, 0, 0, ""))
		w.s.LimitPath(0)
		time.Sleep(20 * time.Second)
		if err := w.s.Err(); err != errTimedOut {
			t.Errorf("did not give up: %v", err)
		}
	})
}

// The Probe hook sees messages from any path. What it takes neither opens the
// path nor is shown to readers.
func TestProbe(t *testing.T) {
	var seen []string
	var asked []netip.AddrPort
	onWire(t, StreamConfig{
		Probe: func(_ *Stream, _ udp.Conn, from netip.AddrPort, payload []byte) bool {
			seen = append(seen, from.String()+" "+string(payload))
			return strings.HasPrefix(string(payload), "probe")
		},
		Accept: func(_ *Stream, _ udp.Conn, from netip.AddrPort) bool {
			asked = append(asked, from)
			return false
		},
	}, func(w *wire) {
		w.connect()
		w.s.ReceiveMessages()
		probe, other := pkt(flagMessage, 0, 0, "probe"), pkt(flagMessage, 0, 0, "other")
		w.raw(otherAddr, probe.Append(nil))
		if len(asked) != 0 {
			t.Errorf("asked about %v", asked)
		}
		w.raw(otherAddr, other.Append(nil), pkt2(flagData, "data"))
		if !slices.Equal(asked, []netip.AddrPort{otherAddr}) {
			t.Errorf("asked about %v", asked)
		}
		w.in(probe, other)
		if want := []string{otherAddr.String() + " probe", otherAddr.String() + " other", peerAddr.String() + " probe", peerAddr.String() + " other"}; !slices.Equal(seen, want) {
			t.Errorf("shown %q, want %q", seen, want)
		}
		b := make([]byte, 10)
		w.s.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := w.s.ReadMessage(b); err != nil || string(b[:n]) != "other" {
			t.Errorf("read %q, %v", b[:n], err)
		}
		if n, err := w.s.ReadMessage(b); err == nil {
			t.Errorf("read %q as well", b[:n])
		}
		if got := w.read(); !strings.Contains(got, "timeout") {
			t.Errorf("read %q of the stream", got)
		}
		w.out()
		if err := w.s.Knock(w.conn, 33, otherAddr, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		w.mustGo("a knock", otherAddr, 33)
	})
}

func pkt2(fl flags, payload string) []byte {
	p := pkt(fl, 0, 0, payload)
	return p.Append(nil)
}

package udx

import (
	"strings"
	"testing"
	"time"

	"github.com/warren-dht/warren/internal/seq"
)

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
		for range 2 * pushRoom / 1452 {
			w.in(pkt(flagData, n, 0, payload))
			for _, p := range w.out() {
				n = p.ack
			}
		}
		if unread := w.s.Stats().Unread; unread > initialWindow+pushRoom+1452 {
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

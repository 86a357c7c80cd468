package relay

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/secretstream"
)

// A client that sends more than a message may have, or begins one and does not
// end it, loses its session and its pairs, and the relay holds nothing of it. One
// that is silent between messages keeps them.
func TestHostileMessages(t *testing.T) {
	for _, c := range []struct {
		name   string
		frame  []byte        // as it stands on the client's raw stream
		within time.Duration // 0: nothing happens
	}{
		{"too large", frame(MaxMessage + 1 + 17), 2 * time.Second},
		{"cut", append(frame(MaxMessage), make([]byte, 1000)...), 40 * time.Second},
		{"a byte of a length", []byte{80}, 40 * time.Second},
		{"nothing", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Neither side ends for want of packets: the pair is kept alive.
			inWorld(t, Config{}, func(t *testing.T, w *world) {
				a, b := w.newPeer(), w.newPeer()
				x, y := pairUp(t, a, b)
				x.SetKeepAlive(10 * time.Second)
				y.SetKeepAlive(10 * time.Second)
				time.Sleep(time.Second)
				began := time.Now()
				raw := a.control.Conn().(*secretstream.Conn).NetConn()
				if len(c.frame) > 0 {
					if _, err := raw.Write(c.frame); err != nil {
						t.Fatal(err)
					}
				}
				select {
				case <-a.session.Done():
					if c.within == 0 || time.Since(began) > c.within {
						t.Errorf("the session ended after %v", time.Since(began))
					}
				case <-time.After(10 * time.Minute):
					if c.within > 0 {
						t.Error("the session goes on")
					}
				}
				synctest.Wait()
				active := 0
				if c.within == 0 {
					active = 1
				}
				if st := w.server.Stats(); st.Pairings.Active != active || st.Streams.Active != 2*active {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// frame is the length of a frame.
func frame(n int) []byte { return []byte{byte(n), byte(n >> 8), byte(n >> 16)} }

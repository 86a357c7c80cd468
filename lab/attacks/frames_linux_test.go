package attacks

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
)

// Frames whose end never comes cost a server little, whatever length they
// announce. A frame is a length of three bytes and as many bytes
// (docs/spec/secret-stream.md §6).
func TestEndlessFrames(t *testing.T) {
	need(t)
	const conns = 40
	w := newNetwork(t, 8, nil)
	for _, c := range []struct {
		name string
		args []string
		size int
		most int64 // MiB
	}{
		{"relay, 16 MB", []string{"relay"}, 1<<24 - 1, 16},
		{"listen, 16 MB", []string{"listen", "--echo"}, 1<<24 - 1, 16},
		// The largest that are allowed by default, of a message and 17 bytes. Here
		// the program holds what came, up to a budget.
		{"relay, 64 KiB", []string{"relay"}, 64<<10 + 17, 16},
		{"listen, 1 MiB", []string{"listen", "--echo"}, 1<<20 + 17, 24},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, "listening", append(c.args, "--firewalled=false", "--bootstrap", w.boot[0])...)
			client := w.join("8.0.0.1", open)
			var open []*hyperdht.Conn
			for range conns {
				if conn, err := dial(t, client, s.key, 5*time.Second); err == nil {
					open = append(open, conn)
					defer conn.Close()
				}
			}
			if len(open) == 0 {
				t.Fatal("no connection was accepted")
			}
			before := s.resetPeak()
			var sent, refused atomic.Int64
			parallelBy(8, len(open), func(i int) {
				raw := open[i].NetConn()
				raw.SetWriteDeadline(time.Now().Add(10 * time.Second))
				n, err := raw.Write([]byte{byte(c.size), byte(c.size >> 8), byte(c.size >> 16)})
				sent.Add(int64(n))
				block := make([]byte, 64<<10)
				for left := c.size - 1; left > 0 && err == nil; left -= n { // one byte is missing
					n, err = raw.Write(block[:min(left, len(block))])
					sent.Add(int64(n))
				}
				if err != nil {
					refused.Add(1)
				}
			})
			peak := s.settledPeak(5 * time.Second)
			result(t, peak-before <= c.most<<20, "endless frames, "+c.name, fmt.Sprintf("+%d MiB", c.most), "+%s for %s on %d connections, %d ended",
				MB(peak-before), MB(sent.Load()), len(open), refused.Load())
			w.serves(t, s)
		})
	}
}

// serves checks that the server still accepts connections.
func (w *network) serves(t *testing.T, s *server) {
	t.Helper()
	client := w.join("7.0.3.1", nil)
	c, err := dial(t, client, s.key, 8*time.Second)
	if err != nil {
		t.Errorf("an honest dial after the attack: %v", err)
		return
	}
	c.Close()
}

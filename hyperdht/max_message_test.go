package hyperdht

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	blind "github.com/warren-dht/warren/relay"
	"github.com/warren-dht/warren/secretstream"
)

// Connections take messages of 1 MiB unless the node, the listener or the dial
// says otherwise, and end at larger ones; a relay takes 64 KiB.
func TestMaxMessage(t *testing.T) {
	const def = secretstream.DefaultMaxMessage
	for _, c := range []struct {
		node, listen, dial int
		server, client     int // what they take
	}{
		{0, 0, 0, def, def},
		{2 << 20, 0, 0, 2 << 20, 2 << 20},
		{2 << 20, 1000, 5000, 1000, 5000},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 8)
				defer w.close()
				server := w.ready(w.net.Host(), Config{Firewalled: isFalse(), MaxMessage: c.node})
				client := w.ready(w.net.Host(), Config{Firewalled: isFalse(), MaxMessage: c.node})
				defer server.Close()
				defer client.Close()
				l := w.listen(server, ListenConfig{MaxMessage: c.listen})
				defer l.Close()
				for _, toServer := range []bool{true, false} {
					accepted := w.accept(l)
					a, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), DialConfig{MaxMessage: c.dial})
					if err != nil {
						t.Fatal(err)
					}
					from, to, most := a, <-accepted, c.server
					if !toServer {
						from, to, most = to, a, c.client
					}
					for _, n := range []int{most, most + 1} {
						go from.WriteMessage(make([]byte, n))
						m, err := to.ReadMessage()
						if n == most && (err != nil || len(m) != n) || n > most && !errors.Is(err, secretstream.ErrFrame) {
							t.Errorf("to server %v: a message of %d: %d bytes, %v", toServer, n, len(m), err)
						}
					}
					from.Close()
					to.Close()
				}
			})
		})
	}
	t.Run("relay", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 8)
			defer w.close()
			r := relayIn(w)
			defer r.Close()
			client := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
			defer client.Close()
			for _, n := range []int{blind.MaxMessage, blind.MaxMessage + 1} {
				c, err := client.Dial(w.ctx(time.Minute), r.PublicKey())
				if err != nil {
					t.Fatal(err)
				}
				m := make([]byte, n)
				m[0] = 9 // of a channel that is not open: ignored
				go c.WriteMessage(m)
				ended := make(chan struct{})
				go func() {
					for {
						if _, err := c.ReadMessage(); err != nil {
							close(ended)
							return
						}
					}
				}()
				time.Sleep(5 * time.Second)
				select {
				case <-ended:
					if n == blind.MaxMessage {
						t.Error("a message of 64 KiB ended the connection")
					}
				default:
					if n > blind.MaxMessage {
						t.Error("a larger message did not")
					}
				}
				c.Close()
			}
		})
	})
}

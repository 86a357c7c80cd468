package hyperdht

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/vnet"
)

// A node that dials at once may find out, while the handshake travels, that it is
// open to the world. The server goes by what the handshake says, so the client must
// not wait for more.
func TestDialBeforeReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		server := w.start(w.net.NAT(vnet.Cone).Host(), Config{})
		l := w.listen(server, ListenConfig{})
		defer l.Close()
		for wait := time.Duration(0); wait < 400*time.Millisecond; wait += 5 * time.Millisecond {
			// Without a fast open it comes to a punch, at an address that has to
			// be named.
			for _, cfg := range []DialConfig{{}, {NoFastOpen: true}} {
				client := w.start(w.net.Host(), Config{})
				accepted := w.accept(l)
				time.Sleep(wait)
				c, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), cfg)
				if err != nil {
					t.Fatalf("after %v: %v", wait, err)
				}
				c.Close()
				(<-accepted).Close()
			}
		}
	})
}

package attacks

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
)

// near is how far a DESTROY's sequence number may be from the expected one and
// still lie in the window that a stream used to accept.
const near = 1 << 16

// DESTROY packets end no connection: from a stranger's address not even with the
// right sequence number, from the peer's address not without it.
func TestForgedDestroys(t *testing.T) {
	need(t)
	conns, guesses := 100, 200
	if *full {
		conns, guesses = 2000, 500
	}
	w := newNetwork(t, 8, nil)
	s := start(t, "listening", "listen", "--echo", "--firewalled=false", "--bootstrap", w.boot[0])
	const hosts = 4
	owners := make([]*tapped, hosts)
	var open []*hyperdht.Conn
	for i := range hosts {
		owners[i] = newTapped()
		client := w.join(netip.AddrFrom4([4]byte{7, 4, byte(i), 1}).String(), func(c *hyperdht.Config) {
			c.Firewalled = new(bool)
			c.Network = owners[i]
		})
		for range conns / hosts {
			c := mustDial(t, client, s.key)
			if _, err := echo(c, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			open = append(open, c)
		}
	}
	time.Sleep(300 * time.Millisecond) // the last acknowledgements
	stranger := bind(t, "10.4.0.1:5555", nil)
	rnd := rand.New(rand.NewPCG(1, 2))
	off := func() uint32 { return uint32(1 + rnd.IntN(near-1)) } // not the right one

	// To the server, and to the clients as if from the server.
	type stream struct {
		flow
		at netip.AddrPort // of its receiver
	}
	var streams []stream
	for _, o := range owners {
		for _, f := range o.all() {
			streams = append(streams, stream{f, s.addr})
		}
		for _, f := range o.server.all() {
			streams = append(streams, stream{f, f.from.LocalAddr()})
		}
	}
	if len(streams) < 2*len(open) {
		t.Fatalf("%d streams for %d connections", len(streams), len(open))
	}
	destroy := func(f stream, shift uint32) []byte {
		return packet{flags: isDestroy, id: f.id, seq: f.next + shift, ack: f.ack}.bytes()
	}
	sent := 0
	for i := range guesses {
		for _, f := range streams {
			shift := off()
			if i == 0 {
				shift = 0
			}
			stranger.send(f.at, destroy(f, shift))
			sent++
			if f.at == s.addr { // the client's own socket has its address
				f.from.WriteBatch([]udp.Datagram{{Payload: destroy(f, off()), Peer: s.addr}})
				sent++
			}
		}
		time.Sleep(2 * time.Millisecond) // so that none is lost
	}
	time.Sleep(500 * time.Millisecond)
	ended, lost := count(open)
	result(t, ended+lost == 0, "DESTROY with known stream ids", "0 of the connections reset", "%d reset, %d lost of %d connections, %d packets",
		ended, lost, len(open), sent)
	result(t, stranger.factor() <= maxFactor, "DESTROY with known stream ids: replies", "3 times", "%.1f times to the stranger", stranger.factor())
	if *full && ended+lost == 0 {
		blindDestroys(t, s.addr, open)
	}
}

// blindDestroys guesses ids and numbers as fast as the machine can, for 40 s.
func blindDestroys(t *testing.T, to netip.AddrPort, open []*hyperdht.Conn) {
	var sent atomic.Int64
	end := time.Now().Add(40 * time.Second)
	parallel(runtime.GOMAXPROCS(0), func(worker int) {
		c, err := udp.Default.Listen(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 5, byte(worker), 1}), 5555))
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		batch := make([]udp.Datagram, 64)
		for time.Now().Before(end) {
			for i := range batch {
				batch[i] = udp.Datagram{Payload: packet{flags: isDestroy, id: rand.Uint32(), seq: rand.Uint32N(near)}.bytes(), Peer: to}
			}
			n, _ := c.WriteBatch(batch)
			sent.Add(int64(n))
		}
	})
	time.Sleep(15 * time.Second) // what was lost is sent again
	ended, lost := count(open)
	result(t, ended+lost == 0, "DESTROY with guessed ids", "0 of the connections reset", "%d reset, %d lost of %d connections, %d packets a second",
		ended, lost, len(open), sent.Load()/40)
}

// count says how many connections are over, and how many are not but do not echo.
func count(conns []*hyperdht.Conn) (ended, lost int) {
	var e, l atomic.Int64
	parallelBy(32, len(conns), func(i int) {
		if _, err := echo(conns[i], 10*time.Second); err == nil {
			return
		}
		select {
		case <-conns[i].Done():
			e.Add(1)
		default:
			l.Add(1)
		}
	})
	return int(e.Load()), int(l.Load())
}

package attacks

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/udp"
)

// maxFactor is how many times the bytes that came from an address may go there
// before a peer has shown that it receives there (RFC 9000, section 8.1).
const maxFactor = 3

// A tapped is an attacker's own client: it sees its packets, and it can leave the
// sending to others.
type tapped struct {
	*wire
	observer
	mute   atomic.Bool
	divert atomic.Pointer[socket] // sends UDX packets in place of the client
	server observer               // the server's packets
}

func newTapped() *tapped {
	a := &tapped{wire: newWire()}
	a.out = func(c udp.Conn, d udp.Datagram) bool {
		a.see(c, d)
		if _, isUDX := parse(d.Payload); !isUDX {
			return true
		}
		if s := a.divert.Load(); s != nil {
			s.send(d.Peer, d.Payload)
			return false
		}
		return !a.mute.Load()
	}
	a.in = func(c udp.Conn, d udp.Datagram) bool {
		a.server.see(c, d)
		return true
	}
	return a
}

// A client with forged packets cannot make a server send more than three times as
// much to a victim: neither after it has gone silent, nor if it has never sent a
// packet of its stream from its own address.
func TestFloodOfAVictim(t *testing.T) {
	need(t)
	w := newNetwork(t, 8, nil)
	s := start(t, "listening", "listen", "--exec", "exec cat /dev/zero", "--allow", "any", "--firewalled=false", "--bootstrap", w.boot[0])
	long := 3 * time.Second
	if *full {
		long = 10 * time.Second
	}
	for i, c := range []struct {
		name   string
		divert bool
		rate   int // of forged acknowledgements
	}{
		{"a client goes silent and forges packets of a victim", false, 500},
		{"a client never sends from its own address", true, 500},
		{"a client sends its first packets from the victim's address, and nothing else", true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			// What the victim hears tells the attacker what to acknowledge. One on
			// another host would have to guess that, which is not difficult.
			var highest atomic.Uint32
			victim := bind(t, netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, byte(i), 0, 1}), 7777).String(), func(b []byte, _ netip.AddrPort) {
				if p, ok := parse(b); ok && p.flags&isData != 0 && int32(p.seq-highest.Load()) > 0 {
					highest.Store(p.seq)
				}
			})
			a := newTapped()
			client := w.join("7.0.1.1", func(cfg *hyperdht.Config) {
				open(cfg)
				cfg.Network = a
			})
			if c.divert {
				a.divert.Store(victim)
			}
			conn, err := dial(t, client, s.key, 5*time.Second)
			if err != nil && !c.divert {
				t.Fatal(err)
			}
			if err == nil {
				defer conn.Close()
				if !c.divert {
					conn.Read(make([]byte, 1<<16))
				}
			}
			a.mute.Store(true)
			a.divert.Store(nil)
			time.Sleep(700 * time.Millisecond) // the path has to be silent
			mine := a.last()
			if mine.from == nil {
				t.Fatal("the client has sent no packet")
			}
			next := highest.Load() + 1
			for _, f := range a.server.all() {
				if int32(f.next-next) > 0 {
					next = f.next
				}
			}
			acknowledge := func(int) {
				if h := highest.Load() + 1; int32(h-next) > 0 {
					next = h
				}
				victim.send(s.addr, packet{id: mine.id, seq: mine.next, ack: next}.bytes())
			}
			if c.rate > 0 {
				every(c.rate, long, nil, acknowledge)
			} else {
				time.Sleep(long)
			}
			time.Sleep(200 * time.Millisecond)
			result(t, victim.factor() <= maxFactor, "flood: "+c.name, "3 times",
				"%d bytes to the victim for %d from there: %.2f times", victim.bytesIn.Load(), victim.out.Load(), victim.factor())
		})
	}
}

// An observer on the path that sends packets of its own does not move a connection away
// from its owner, and draws no more than three times its bytes.
func TestHijackOfAnIdleConnection(t *testing.T) {
	need(t)
	w := newNetwork(t, 8, nil)
	s := start(t, "listening", "listen", "--echo", "--firewalled=false", "--bootstrap", w.boot[0])
	const within = 5 * time.Second
	long := 4 * time.Second
	if *full {
		long = 30 * time.Second
	}
	for i, c := range []struct {
		name   string
		rate   int
		long   time.Duration
		forged func(flow, int) []byte
	}{
		{"one bare acknowledgement", 1, time.Second, func(f flow, _ int) []byte {
			return packet{id: f.id, seq: f.next, ack: f.ack}.bytes()
		}},
		{"10 acknowledgements a second", 10, long, func(f flow, _ int) []byte {
			return packet{id: f.id, seq: f.next, ack: f.ack}.bytes()
		}},
		{"10 of the owner's own packets a second", 10, long, func(f flow, i int) []byte {
			return f.packets[i%len(f.packets)]
		}},
		{"200 packets of all kinds a second", 200, long, func(f flow, i int) []byte {
			flags := []byte{isHeartbeat, isData, isData | isEnd, isMessage, isEnd, 4, 0}[i%7]
			return packet{flags: flags, id: f.id, seq: f.next + uint32(i%5), ack: f.ack - uint32(i%3), payload: make([]byte, i%40)}.bytes()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // each has a connection and addresses of its own
			owner := newTapped()
			client := w.join(netip.AddrFrom4([4]byte{7, 0, 2, byte(i + 1)}).String(), func(cfg *hyperdht.Config) {
				open(cfg)
				cfg.Network = owner
			})
			conn := mustDial(t, client, s.key)
			if _, err := echo(conn, within); err != nil {
				t.Fatal(err)
			}
			var hijacked atomic.Int64
			stranger := bind(t, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 1}), 5555).String(), func(b []byte, _ netip.AddrPort) {
				if p, ok := parse(b); ok && p.flags&isData != 0 {
					hijacked.Add(1)
				}
			})
			time.Sleep(time.Second) // the connection is idle
			var took time.Duration
			var failed error
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				time.Sleep(c.long / 2)
				took, failed = echo(conn, within)
			}()
			every(c.rate, c.long, nil, func(i int) {
				stranger.send(s.addr, c.forged(owner.last(), i))
				f := owner.server.last()
				stranger.send(f.from.LocalAddr(), c.forged(f, i))
			})
			<-asked
			if failed == nil {
				_, failed = echo(conn, within) // and afterwards
			}
			held := failed == nil && hijacked.Load() == 0 && stranger.factor() <= maxFactor
			result(t, held, "hijack: "+c.name, "owner unaffected; to the stranger no data, 3 times its bytes",
				"owner's echo after %v, error %v; %d packets of data and %d bytes to the stranger for %d", took.Round(time.Millisecond), failed,
				hijacked.Load(), stranger.bytesIn.Load(), stranger.out.Load())
		})
	}
}

// A client that has not proved its key yet, and that sends one packet from each of
// several addresses, draws no more than three times its bytes to any of them.
func TestFloodBeforeTheProof(t *testing.T) {
	need(t)
	w := newNetwork(t, 8, nil)
	s := start(t, "listening", "listen", "--exec", "exec cat /dev/zero", "--allow", "any", "--firewalled=false", "--bootstrap", w.boot[0])
	attacker := newRequester(t, "8.9.0.1:4000", nil)
	victims := []*socket{bind(t, "9.8.0.1:7001", nil), bind(t, "9.8.0.1:7002", nil), bind(t, "9.8.0.1:7003", nil)}
	target := [32]byte(hyperdht.TargetOf(s.key))
	answered := 0
	for i := range 10 {
		h := shake(t, s.key, hyperdht.GenerateKeyPair(), clientHello{open: i%2 == 0, features: 2 | 4})
		m, ok := attacker.ask(request{to: s.addr, command: peerHandshake, target: &target, value: handshakeValue(h.first)})
		if !ok {
			continue
		}
		hello, ok := h.finish(noiseOf(m.value))
		if !ok {
			continue
		}
		answered++
		for _, v := range victims {
			v.send(s.addr, packet{id: hello.stream}.bytes())
			time.Sleep(50 * time.Millisecond)
		}
	}
	if answered == 0 {
		t.Fatal("the server answers no handshake")
	}
	time.Sleep(3 * time.Second) // for what is sent again
	var in, out int64
	for _, v := range victims {
		in += v.bytesIn.Load()
		out += v.out.Load()
	}
	result(t, in <= maxFactor*out, "flood: a client that has not proved its key sends from three addresses", "3 times",
		"%d bytes to the victim for %d from there: %.2f times", in, out, float64(in)/float64(out))
}

package hyperdht

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// What nobody has time for any more costs no key exchange, and few run at once.
func TestKeyExchangesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyExchanges()
		hold := make(chan struct{})
		running, most := 0, 0
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		for range 100 {
			go func() {
				ended <- k.run(ctx, func() error {
					running++ // the holders are counted one by one: see most
					most = max(most, running)
					<-hold
					return nil
				})
			}()
			synctest.Wait()
		}
		at := running
		cancel()
		for range 100 - at {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Fatal("one whose context has ended was computed:", err)
			}
		}
		close(hold)
		for range at {
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
		}
		if at < 1 || at > 100/2 || running != at {
			t.Errorf("%d of 100 run at once, %d in all", at, running)
		}
	})
}

// What is remembered of handshakes that have ended holds neither their streams
// nor their messages.
func TestEndedHandshakesAreSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 6)
		defer w.close()
		server := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		client := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		l := w.listen(server, ListenConfig{})
		relay := l.announcer.relayInfos()[0].relay
		key := l.PublicKey()
		target, m := TargetOf(key), handshakeMessage{mode: fromClient, noise: firstMessageTo(t, client, key)}
		answer := func() handshakeMessage {
			r, err := client.rpc.Request(t.Context(), relay, dhtrpc.Message{
				Command: cmdPeerHandshake, Target: (*dhtrpc.ID)(&target), Value: m.append(nil),
			}, dhtrpc.NoRetry())
			if err != nil {
				t.Fatal(err)
			}
			m, err := parseHandshakeMessage(r.Value)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		before := answer()
		time.Sleep(stepWait + time.Second)
		l.mu.Lock()
		for _, h := range l.recent {
			if h.link != nil || h.puncher != nil || h.first.noise != nil || h.waiters != nil || l.slots[h.id] != h || l.handshakes[h.key] != h {
				t.Errorf("%+v is kept", h)
			}
		}
		n := len(l.recent)
		l.mu.Unlock()
		if s := server.Stats(); n != 1 || s.Handshakes != 0 || s.Streams != 0 || s.SocketsAdded != s.SocketsRemoved {
			t.Fatalf("%d are remembered, %+v", n, s)
		}
		if after := answer(); string(after.noise) != string(before.noise) {
			t.Error("another answer")
		}
	})
}

// A client that has to give way begins anew when it repeats its message: what
// remembers answers does not swallow that.
func TestDisplacedClientBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 6)
		defer w.close()
		server := w.ready(w.net.Host(), Config{Firewalled: isFalse(), MaxHandshakes: 2})
		client := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		l := w.listen(server, ListenConfig{Unannounced: true})
		to, _ := server.openAddr()
		first := firstMessageTo(t, client, l.PublicKey())
		send := func(n *Node, first []byte) {
			sendHandshake(n, to, l.PublicKey(), handshakeMessage{mode: fromClient, noise: first})
		}
		at := func() *serverHandshake {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.handshakes[hash(first)]
		}
		send(client, first)
		old := at()
		if old == nil || !old.answered {
			t.Fatal("not answered")
		}
		for i := range 2 {
			time.Sleep(2 * handshakeGrace)
			other := w.ready(w.net.Host(netip.AddrFrom4([4]byte{200, byte(i), 0, 1})), Config{Firewalled: isFalse()})
			send(other, firstMessageTo(t, other, l.PublicKey()))
		}
		if at() != nil {
			t.Fatal("it did not give way")
		}
		time.Sleep(2 * handshakeGrace)
		send(client, first)
		if h := at(); h == nil || h == old || !h.answered {
			t.Errorf("repeated, it is %v", h)
		}
	})
}

// A handshake whose client takes no next step has its slot for three seconds; one
// that repeats its message gets the answer again, and as long again, ten in all.
func TestSlotWithoutAStep(t *testing.T) {
	for name, repeat := range map[string]bool{"silent": false, "repeats": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 6)
				defer w.close()
				server := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
				client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
				l := w.listen(server, ListenConfig{})
				relay := l.announcer.relayInfos()[0].relay
				m := handshakeMessage{mode: fromClient, noise: firstMessageTo(t, client, l.PublicKey())}
				start := time.Now()
				sendHandshake(client, relay, l.PublicKey(), m)
				next := start.Add(time.Second)
				for server.Stats().Handshakes > 0 {
					time.Sleep(100 * time.Millisecond)
					if repeat && time.Now().After(next) {
						sendHandshake(client, relay, l.PublicKey(), m)
						next = next.Add(time.Second)
					}
				}
				want := stepWait
				if repeat {
					want = serverWait
				}
				if took := time.Since(start); took < want || took > want+500*time.Millisecond {
					t.Errorf("the slot was taken for %v, want %v", took, want)
				}
			})
		})
	}
}

// Connections count from before they are made until they have ended, those that
// wait for Accept included, and those of one peer apart.
func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		l := w.listen(server, ListenConfig{MaxConns: 5, MaxPeerConns: 2})
		keys := []KeyPair{GenerateKeyPair(), GenerateKeyPair(), GenerateKeyPair()}
		var open []*Conn
		dial := func(k KeyPair) error {
			start := time.Now()
			c, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), DialConfig{KeyPair: k})
			if err == nil {
				open = append(open, c)
			} else if !errors.Is(err, ErrServerError) || time.Since(start) > time.Second {
				t.Errorf("refused after %v: %v", time.Since(start), err)
			}
			return err
		}
		for i, want := range []bool{true, true, false} {
			if err := dial(keys[0]); (err == nil) != want {
				t.Fatalf("connection %d of a peer: %v", i, err)
			}
		}
		for i, want := range []bool{true, true, true, false} { // nobody has accepted yet
			if err := dial(keys[1+i%2]); (err == nil) != want {
				t.Fatalf("connection %d of others: %v", i, err)
			}
		}
		open[0].Close()
		accepted, _ := l.AcceptConn(t.Context())
		accepted.Close()
		time.Sleep(20 * time.Second)
		if err := dial(keys[0]); err != nil {
			t.Errorf("when one has ended: %v", err)
		}
		for _, c := range open {
			c.Close()
		}
		l.Close()
		time.Sleep(time.Minute)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.conns != 0 || len(l.peerConns) != 0 {
			t.Errorf("%d connections are counted, of %d peers", l.conns, len(l.peerConns))
		}
	})
}

// The defaults hold, and negative numbers are no limit.
func TestConnectionDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		defer w.close()
		n := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		l := w.listen(n, ListenConfig{Unannounced: true})
		count := func(key func(i int) PublicKey) (n int) {
			for n < 3*DefaultMaxConns && l.reserve(key(n)) {
				n++
			}
			for i := range n {
				l.unreserve(key(i))
			}
			return n
		}
		same := func(int) PublicKey { return PublicKey{1} }
		others := func(i int) (k PublicKey) {
			binary.LittleEndian.PutUint32(k[:], uint32(i))
			return k
		}
		if a, b := count(same), count(others); a != DefaultMaxPeerConns || b != DefaultMaxConns {
			t.Errorf("%d connections of a peer, %d in all", a, b)
		}
		l.cfg.MaxConns, l.cfg.MaxPeerConns = -1, -1
		if a := count(same); a != 3*DefaultMaxConns {
			t.Errorf("%d connections without a limit", a)
		}
		if n.sockets.max != DefaultMaxSockets {
			t.Errorf("%d sockets", n.sockets.max)
		}
	})
}

// Sockets that carry connections count among those that a node may have.
func TestSocketsThatCarryConnectionsCount(t *testing.T) {
	net := vnet.New(1)
	defer net.Close()
	p := &socketPool{network: net.Host(), host: netip.IPv4Unspecified(), max: 3, open: map[udp.Conn]*punchSocket{}}
	defer p.close()
	var carrying *punchSocket
	for range 3 {
		s, err := p.acquire(nil)
		if err != nil {
			t.Fatal(err)
		}
		s.retain()
		carrying = s
	}
	if _, err := p.acquire(nil); !errors.Is(err, errTooManySockets) || p.idle != 0 {
		t.Errorf("a fourth socket, of which %d carry nothing: %v", p.idle, err)
	}
	carrying.drop()
	carrying.pool.mu.Lock()
	carrying.pool.closeLocked(carrying)
	carrying.pool.mu.Unlock()
	if _, err := p.acquire(nil); err != nil {
		t.Error(err)
	}
}

// Blind relays that clients name are joined few at a time, and for one network a
// few a second.
func TestRelayJoinsAreBounded(t *testing.T) {
	var j relayJoins
	now := time.Unix(1000, 0)
	var ends []func()
	begin := func(network, host byte) bool {
		end, ok := j.begin(now, netip.AddrFrom4([4]byte{8, 8, network, host}))
		if ok {
			ends = append(ends, end)
		}
		return ok
	}
	for i := range byte(10) {
		if ok := begin(1, i); ok != (i < maxSourceRelayJoins) {
			t.Fatalf("number %d of a network: %v", i, ok)
		}
	}
	for i := range byte(100) {
		begin(2+i, 1)
	}
	if j.running != maxRelayJoins || len(ends) != maxRelayJoins {
		t.Fatalf("%d run, %d may", j.running, len(ends))
	}
	for _, end := range ends {
		end()
		end() // does no harm
	}
	ends = nil
	if j.running != 0 || len(j.by) != 0 {
		t.Fatalf("%d run when all have ended", j.running)
	}
	if begin(1, 1) {
		t.Error("a network begins a fifth in a second")
	}
	now = now.Add(time.Second)
	if !begin(1, 1) {
		t.Error("a network may not begin another one a second later")
	}
}

// A punch message is known when it comes again, and the memory of them is bounded.
func TestPunchMemory(t *testing.T) {
	var m punchMemory
	at, other := netip.MustParseAddrPort("8.8.8.8:1"), netip.MustParseAddrPort("9.9.9.9:1")
	nonce := func(i int) (n [nonceSize]byte) {
		binary.LittleEndian.PutUint32(n[:], uint32(i))
		return n
	}
	for i := range 10 * maxPunchNonces {
		first, fresh := m.note(nonce(i), at)
		if !fresh || first.from != at || first.answered {
			t.Fatalf("message %d: %+v, new: %v", i, first, fresh)
		}
		if again, fresh := m.note(nonce(i), other); fresh || again != first {
			t.Fatalf("message %d again: %+v, new: %v", i, again, fresh)
		}
	}
	if len(m.ring) != maxPunchNonces || len(m.known) != maxPunchNonces {
		t.Errorf("%d and %d are remembered", len(m.ring), len(m.known))
	}
}

// 50,000 requests a second through one node, of as many networks or of one, do not
// make it forget who asked before the answer can be there.
func TestFloodOfRequestsForgetsNobody(t *testing.T) {
	for name, flooder := range map[string]func(i int) netip.AddrPort{
		"of many networks": func(i int) netip.AddrPort {
			var ip [4]byte
			binary.BigEndian.PutUint32(ip[:], uint32(i)*2654435761)
			return netip.AddrPortFrom(netip.AddrFrom4(ip), 1)
		},
		"of one host": func(i int) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, 9, 9, 9}), uint16(i)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRouter(nil)
			now := time.Unix(1000, 0)
			honest := netip.MustParseAddrPort("8.8.8.8:1000")
			key := askedKey{7, endpointOf(honest)}
			n := 0
			flood := func(d time.Duration) {
				for end := now.Add(d); now.Before(end); now = now.Add(20 * time.Microsecond) {
					from := flooder(n)
					r.asked.note(now, askedKey{uint16(n >> 8), endpointOf(from)}, from.Addr())
					n++
				}
			}
			flood(3 * time.Second)
			r.asked.note(now, key, honest.Addr())
			flood(time.Second)
			if !r.asked.has(now, key) {
				t.Error("forgotten after a second")
			}
			if n := r.asked.m.Len(); n > maxAsked {
				t.Errorf("%d are remembered", n)
			}
			now = now.Add(askedTime)
			if r.asked.has(now, key) {
				t.Error("remembered for ever")
			}
		})
	}
}

// A client chooses the next node that its handshake goes to 64 times a second, and
// only among nodes that are known.
func TestFreeDestinationsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 6)
		defer w.close()
		client := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		other := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		stranger := netip.AddrPortFrom(w.net.Host().Addr(), 4000)
		through := w.nodes[1]
		next := through.rpc.Nodes()[0].Addr
		key := GenerateKeyPair().Public
		first := firstMessageTo(t, client, key)
		stats := func() (s RouterStats) {
			through.rpc.Do(func() { s = through.router.stats })
			return s
		}
		send := func(from *Node, n int, next netip.AddrPort) RouterStats {
			before := stats()
			for range n {
				go sendHandshake(from, through.rpc.PublicAddr(), key, handshakeMessage{mode: fromClient, noise: first, relay: next})
			}
			time.Sleep(500 * time.Millisecond)
			after := stats()
			return RouterStats{Handshakes: after.Handshakes - before.Handshakes, Limited: after.Limited - before.Limited}
		}
		if s := send(client, 10, stranger); s.Handshakes != 0 || s.Limited != 0 {
			t.Errorf("%d handshakes went to a node that nobody knows", s.Handshakes)
		}
		if s := send(client, 100, next); s.Handshakes != messagesPerHost || s.Limited != 100-messagesPerHost {
			t.Errorf("%d handshakes in a second went where the client wanted, %d did not", s.Handshakes, s.Limited)
		}
		if s := send(other, 10, next); s.Handshakes != 10 {
			t.Errorf("%d of 10 handshakes of another client went on", s.Handshakes)
		}
		time.Sleep(time.Second)
		if s := send(client, 10, next); s.Handshakes != 10 {
			t.Errorf("%d of 10 handshakes went on a second later", s.Handshakes)
		}
	})
}

// A budget of hosts is bounded, and those that are not public are not limited.
func TestHostBudgetIsBounded(t *testing.T) {
	var b hostBudget
	now := time.Unix(1000, 0)
	n := 0
	for i := range 2 * maxBudgetedHosts {
		var ip [4]byte
		binary.BigEndian.PutUint32(ip[:], uint32(8<<24+i))
		if b.take(now, netip.AddrFrom4(ip), 1) {
			n++
		}
	}
	if n != maxBudgetedHosts || len(b.spent) != n {
		t.Errorf("%d hosts in a second", n)
	}
	for range 1000 {
		if !b.take(now, netip.MustParseAddr("192.168.1.1"), 1) {
			t.Fatal("a host at home is limited")
		}
	}
}

package hyperdht

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/noise"
	"github.com/warren-dht/warren/protomux"
	blind "github.com/warren-dht/warren/relay"
	"github.com/warren-dht/warren/udx"
	"github.com/warren-dht/warren/vnet"
)

// firstMessageTo makes a client's first message of a handshake that it never
// goes on with.
func firstMessageTo(t testing.TB, n *Node, key PublicKey) []byte {
	t.Helper()
	d := &dial{node: n, key: key, cfg: DialConfig{KeyPair: n.keyPair}, target: TargetOf(key)}
	if err := d.introduce(); err != nil {
		t.Fatal(err)
	}
	d.link.raw.Destroy(nil)
	return d.first
}

// sendHandshake sends a PEER_HANDSHAKE once and does not care for the answer.
func sendHandshake(n *Node, to netip.AddrPort, key PublicKey, m handshakeMessage) {
	target := TargetOf(key)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	n.rpc.Request(ctx, to, dhtrpc.Message{Command: cmdPeerHandshake, Target: (*dhtrpc.ID)(&target), Value: m.append(nil)}, dhtrpc.NoRetry())
}

// While one host floods a listener through all its relays and directly, another
// one connects, and what the flood costs stays within bounds.
func TestHandshakeFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 12)
		defer w.close()
		server := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		attacker := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		defer server.Close()
		defer attacker.Close()
		defer client.Close()
		l := w.listen(server, ListenConfig{})
		defer l.Close()
		key := l.PublicKey()
		relays := l.announcer.relayInfos()
		if len(relays) != 3 {
			t.Fatalf("%d relays", len(relays))
		}
		flooding, stop := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for i := 0; flooding.Err() == nil; i++ {
				m := handshakeMessage{mode: fromClient, noise: firstMessageTo(t, attacker, key)}
				go sendHandshake(attacker, relays[i%3].relay, key, m)
				if i%4 == 0 { // and a lie about who asks
					m.mode, m.peer = fromRelay, netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, byte(i >> 8), byte(i), 1}), 1000)
					go sendHandshake(attacker, relays[i%3].peer, key, m)
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
		time.Sleep(3 * time.Second)
		for range 3 {
			accepted := w.accept(l)
			a, err := client.Dial(w.ctx(30*time.Second), key)
			if err != nil {
				t.Fatal(err)
			}
			converse(t, a, <-accepted)
		}
		s := server.Stats()
		if open := s.SocketsAdded - s.SocketsRemoved; open > 510 || s.Handshakes > DefaultMaxHandshakes*5/4 || s.Limited == 0 {
			t.Errorf("%d sockets open, %d handshakes under way, %d refused", open, s.Handshakes, s.Limited)
		}
		stop()
		<-ended
		time.Sleep(time.Minute)
		s = server.Stats()
		l.mu.Lock()
		left := len(l.handshakes) + len(l.slots) + len(l.recent)
		l.mu.Unlock()
		if s.SocketsAdded != s.SocketsRemoved || s.Handshakes != 0 || s.Streams != 0 || left != 0 {
			t.Errorf("left of the flood: %d sockets, %d handshakes, %d streams, %d memories",
				s.SocketsAdded-s.SocketsRemoved, s.Handshakes, s.Streams, left)
		}
	})
}

// First messages that are none cost their parsing and a short memory.
func TestGarbageHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		defer w.close()
		server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		attacker := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		l := w.listen(server, ListenConfig{})
		to, _ := server.openAddr()
		luck := rand.NewChaCha8([32]byte{1})
		for range 2 * maxRecent {
			m := handshakeMessage{mode: fromClient, noise: make([]byte, 200)}
			luck.Read(m.noise)
			go sendHandshake(attacker, to, l.PublicKey(), m)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		l.mu.Lock()
		recent, known := len(l.recent), len(l.handshakes)
		l.mu.Unlock()
		if bad := server.Stats().BadHandshakes; bad < maxRecent || recent > maxRecent || known > maxRecent {
			t.Errorf("of %d handshakes %d and %d are remembered", bad, recent, known)
		}
		time.Sleep(handshakeClearWait)
		l.mu.Lock()
		recent, known = len(l.recent), len(l.handshakes)
		l.mu.Unlock()
		if recent+known > 0 {
			t.Errorf("%d and %d are remembered for ever", recent, known)
		}
	})
}

// Whoever plays the relay cannot make a server send into private networks.
func TestHandshakeForPrivateAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		defer w.close()
		host := w.net.Host()
		var private atomic.Int64
		host.SetFilter(vnet.Filter{Out: func(_, to netip.AddrPort) bool {
			if isPrivate(to.Addr()) {
				private.Add(1)
			}
			return true
		}})
		server := w.ready(host, Config{Firewalled: isFalse()})
		attacker := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		l := w.listen(server, ListenConfig{HideLocalAddresses: true})
		to, ok := server.openAddr()
		if _, open := attacker.openAddr(); !open || !ok {
			t.Fatal("not open")
		}
		before := private.Load()
		sendHandshake(attacker, to, l.PublicKey(), handshakeMessage{
			mode: fromRelay, noise: firstMessageTo(t, attacker, l.PublicKey()), peer: netip.MustParseAddrPort("192.168.1.1:53"),
		})
		time.Sleep(20 * time.Second)
		if n := private.Load() - before; n > 0 {
			t.Errorf("%d datagrams sent to a private address", n)
		}
	})
}

// The second of two relays does not remember as a client whom the first one
// names: nobody gets "answers" who did not ask.
func TestSecondRelayRemembersNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		defer w.close()
		attacker := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		l := w.listen(attacker, ListenConfig{})
		holder := l.announcer.relayInfos()[0].relay
		relay := w.nodes[slices.IndexFunc(w.nodes, func(n *Node) bool { return n.rpc.PublicAddr() == holder })]
		victim := netip.MustParseAddrPort("8.8.8.8:53")
		sendHandshake(attacker, holder, l.PublicKey(), handshakeMessage{
			mode: fromRelay, noise: firstMessageTo(t, attacker, l.PublicKey()), peer: victim,
		})
		time.Sleep(time.Second)
		forwarded := false
		relay.rpc.Do(func() {
			forwarded = relay.router.stats.Handshakes > 0
			for k := range relay.router.asked.m.All() {
				if k.client == endpointOf(victim) {
					t.Error("a stranger is remembered as one who asked")
				}
			}
		})
		if !forwarded {
			t.Error("the relay does not forward")
		}
	})
}

// A function of the application that panics refuses; the node lives on.
func TestApplicationPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		server := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		var allow, punch atomic.Bool
		l := w.listen(server, ListenConfig{
			Allow: func(context.Context, Incoming) error {
				if !allow.Load() {
					panic("allow")
				}
				return nil
			},
			Holepunch: func(PunchAttempt) bool {
				if !punch.Load() {
					panic("holepunch")
				}
				return true
			},
		})
		if _, err := client.Dial(w.ctx(time.Minute), l.PublicKey()); !errors.Is(err, ErrPeerConnectionFailed) {
			t.Errorf("Allow panicked: %v", err)
		}
		allow.Store(true)
		slow := DialConfig{NoFastOpen: true}
		if _, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), slow); !errors.Is(err, ErrHolepunchAborted) {
			t.Errorf("the listener's Holepunch panicked: %v", err)
		}
		punch.Store(true)
		slow.Holepunch = func(PunchAttempt) bool { panic("dial") }
		if _, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), slow); !errors.Is(err, ErrPunchRefused) {
			t.Errorf("the dial's Holepunch panicked: %v", err)
		}
		accepted := w.accept(l)
		a, err := client.Dial(w.ctx(time.Minute), l.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		converse(t, a, <-accepted)
		if s := server.Stats(); s.Refused != 1 {
			t.Errorf("%d refused", s.Refused)
		}
	})
}

// A peer that acknowledges packets and never says who it is does not keep a dial
// waiting.
func TestPeerThatProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		defer w.close()
		a, b := w.nodes[0], w.nodes[1]
		link, err := a.newLink(nil)
		if err != nil {
			t.Fatal(err)
		}
		mute, err := b.mux.NewStream(udx.StreamConfig{})
		if err != nil {
			t.Fatal(err)
		}
		link.setRemote(&udxInfo{id: mute.ID()}, nil, 0)
		mute.Connect(b.rpc.Conn(), link.raw.ID(), a.rpc.PublicAddr(), udx.ConnectOptions{})
		if !link.attach(a.rpc.Conn(), b.rpc.PublicAddr(), PathDirect) {
			t.Fatal("not attached")
		}
		start := time.Now()
		if _, err = link.establish(context.Background(), noise.Result{}, streamOptions{}); !errors.Is(err, ErrPathLost) {
			t.Errorf("established: %v", err)
		}
		if took := time.Since(start); took > provingTime {
			t.Errorf("gave up after %v", took)
		}
		if mute.Stats().PacketsReceived == 0 {
			t.Error("nothing arrived at the peer")
		}
	})
}

// What an answer names that is not to be sent to is not used.
func TestAbsurdAnswer(t *testing.T) {
	at := netip.MustParseAddrPort
	public, other := at("8.8.8.8:1000"), at("9.9.9.9:2000")
	absurd := []netip.AddrPort{at("8.8.8.8:0"), at("192.168.1.1:80"), at("127.0.0.1:80"), at("224.0.0.1:5"), at("0.0.0.0:7"), at("255.255.255.255:7")}
	a := &dialAnswer{relay: public, relayed: true, server: at("10.0.0.1:80")}
	a.payload.holepunch = new(holepunchInfo)
	for _, x := range append(slices.Clone(absurd), other) {
		a.payload.relayAddresses = append(a.payload.relayAddresses, x)
		a.payload.holepunch.relays = append(a.payload.holepunch.relays, relayInfo{x, other})
	}
	a.payload.holepunch.relays = append(a.payload.holepunch.relays, relayInfo{public, at("1.2.3.4:0")})
	a.prune()
	if r := a.payload.holepunch.relays; !slices.Equal(r, []relayInfo{{other, other}}) {
		t.Errorf("relays %v", r)
	}
	if r := a.payload.relayAddresses; !slices.Equal(r, []netip.AddrPort{other}) {
		t.Errorf("known nodes %v", r)
	}
	a.payload.firewall = nat.Open
	a.payload.addresses4 = absurd
	if p := planDial(a, false, nil); p.direct.IsValid() {
		t.Errorf("the plan is to go to %v", p.direct)
	}
	a.payload.addresses4 = append(a.payload.addresses4, other)
	if p := planDial(a, false, nil); p.direct != other {
		t.Errorf("the plan is to go to %v, not to %v", p.direct, other)
	}
	a.relay, a.payload.addresses4 = at("10.0.0.2:1"), nil // at home
	if p := planDial(a, false, nil); p.direct != a.server {
		t.Errorf("the plan is to go to %v, not to %v", p.direct, a.server)
	}
}

// Blind relays that name another relay each are not followed.
func TestRelayThatNamesARelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		n := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		l := w.listen(n, ListenConfig{RelayThrough: []PublicKey{GenerateKeyPair().Public}})
		r := n.ServeRelay(l, blind.Config{})
		defer r.Close()
		server := w.ready(w.net.NAT(vnet.Symmetric).Host(), Config{})
		client := w.ready(w.net.NAT(vnet.Symmetric).Host(), Config{})
		sl := w.listen(server, ListenConfig{AllowRelay: anyRelay})
		a, err := client.DialWith(w.ctx(time.Minute), sl.PublicKey(), DialConfig{RelayThrough: []PublicKey{r.PublicKey()}})
		if err != nil {
			t.Fatal(err)
		}
		if d := client.Stats().Dials; d != 2 {
			t.Errorf("%d dials for the peer and its relay", d)
		}
		a.Close()
	})
}

// A client that has no use for a blind relay any more does not keep its
// connection there.
func TestRelayClientThatHoards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		n := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		r := n.ServeRelay(w.listen(n, ListenConfig{}), blind.Config{IdleTimeout: 5 * time.Second})
		client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		c, err := client.Dial(w.ctx(time.Minute), r.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		mux := protomux.New(c)
		go mux.Run()
		key := c.PublicKey()
		if _, err := blind.NewClient(mux, key[:]); err != nil {
			t.Fatal(err)
		}
		select {
		case <-c.Done():
		case <-time.After(time.Minute):
			t.Error("the connection lives on")
		}
		c.Close()
		r.Close()
	})
}

// A relayed client that never gets round to punching does not keep our socket.
func TestRelayedClientThatDawdles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 12)
		defer w.close()
		r := relayIn(w)
		server := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		l := w.listen(server, ListenConfig{AllowRelay: anyRelay})
		accepted := w.accept(l)
		hold := make(chan struct{})
		a, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), DialConfig{
			RelayThrough: []PublicKey{r.PublicKey()},
			NoFastOpen:   true,
			Holepunch:    func(PunchAttempt) bool { <-hold; return false },
		})
		if err != nil {
			t.Fatal(err)
		}
		b := <-accepted
		if s := server.Stats(); s.SocketsAdded == s.SocketsRemoved {
			t.Error("the server has no socket to punch from")
		}
		time.Sleep(punchPatience + time.Second)
		if s := server.Stats(); s.SocketsAdded != s.SocketsRemoved {
			t.Errorf("%d sockets are kept", s.SocketsAdded-s.SocketsRemoved)
		}
		if b.Path().Kind != PathRelayed {
			t.Fatalf("path is %v", b.Path())
		}
		close(hold)
		converse(t, a, b)
		r.Close()
	})
}

// A connect error is one line, whatever it is made of.
func TestConnectErrorIsOneLine(t *testing.T) {
	joined := errors.Join(errors.New("one"), errors.New("two"))
	e := &ConnectError{Err: joined, Handshakes: []HandshakeAttempt{{Err: joined}}, Paths: []PathAttempt{{Kind: PathLAN, Err: joined}}}
	if s := e.Error(); strings.Contains(s, "\n") || strings.Count(s, "two") != 3 {
		t.Errorf("%q", s)
	}
}

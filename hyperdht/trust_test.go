package hyperdht

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/blake2b"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/noise"
	"github.com/warren-dht/warren/secretstream"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
	"github.com/warren-dht/warren/vnet"
)

// publicHash computes the hash of a handshake from what is on the wire: the two
// messages, and the key that the first one goes to.
func publicHash(server PublicKey, m1, m2 []byte) (h [64]byte) {
	copy(h[:], "Noise_IK_Ed25519_ChaChaPoly_BLAKE2b")
	for _, b := range [][]byte{nsPeerHandshake[:], server[:], m1[:32], m1[32:80], m1[80:], m2[:32], m2[32:]} {
		h = blake2b.Sum512(append(h[:], b...))
	}
	return h
}

// A replayer has recorded a client's first message. It sends that again and goes
// on as far as an observer can.
func (w *world) replay(attacker *Node, server *Node, l *Listener, first []byte) (*udx.Stream, error) {
	w.t.Helper()
	m := handshakeMessage{mode: fromClient, noise: first}
	target := TargetOf(l.PublicKey())
	r, err := attacker.relayedRequest(w.ctx(time.Minute), server.rpc.PublicAddr(), dhtrpc.Message{
		Command: cmdPeerHandshake, Target: (*dhtrpc.ID)(&target), Value: m.append(nil),
	}, attacker.rpc.Conn())
	if err != nil {
		return nil, err
	}
	back, err := parseHandshakeMessage(r.Value)
	if err != nil {
		return nil, err
	}
	// The ids of the streams are encrypted. A blind relay is told the server's.
	links := server.links.list()
	if len(links) != 1 {
		w.t.Fatalf("%d streams", len(links))
	}
	link := links[0]
	link.mu.Lock()
	ours := link.remoteID
	link.mu.Unlock()
	s, err := attacker.mux.NewStream(udx.StreamConfig{ID: ours, Accept: func(*udx.Stream, udp.Conn, netip.AddrPort) bool { return true }})
	if err != nil {
		return nil, err
	}
	if err := s.Connect(attacker.rpc.Conn(), link.raw.ID(), server.rpc.PublicAddr(), udx.ConnectOptions{}); err != nil {
		return nil, err
	}
	// Everything but the session's keys and secret.
	forged := noise.Result{Initiator: true, Hash: publicHash(l.PublicKey(), first, back.noise)}
	_, err = secretstream.New(s, forged, secretstream.Config{Prove: true})
	return s, err
}

// Accept returns nobody who has only recorded a handshake of the client: with and
// without the client's own proof, whether the recorded message led to a
// connection or the attacker dropped it, and after the server has restarted.
// AcceptUnproven shows that the attack is a real one.
func TestRecordedHandshakeIsNotDelivered(t *testing.T) {
	for _, c := range []struct {
		name      string
		plain     bool // the recorded client is one that proves nothing at once
		cfg       ListenConfig
		delivered bool
	}{
		{"of warren", false, ListenConfig{}, false},
		{"of the reference", true, ListenConfig{}, false},
		{"of warren, unproven ones accepted", false, ListenConfig{AcceptUnproven: true}, false},
		{"of the reference, unproven ones accepted", true, ListenConfig{AcceptUnproven: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 4)
				defer w.close()
				attacker := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
				defer attacker.Close()
				alice, key := GenerateKeyPair(), GenerateKeyPair()
				c.cfg.KeyPair = &key
				host := w.net.Host()
				delivered := 0
				for range 25 {
					// A restart: nothing of an earlier run is remembered.
					server := w.ready(host, Config{Firewalled: isFalse()})
					l := w.listen(server, c.cfg)
					d := &dial{node: attacker, key: key.Public, cfg: DialConfig{KeyPair: alice, plain: c.plain}, target: TargetOf(key.Public)}
					if err := d.introduce(); err != nil {
						t.Fatal(err)
					}
					d.link.raw.Destroy(nil)
					accepted := w.accept(l)
					s, err := w.replay(attacker, server, l, d.first)
					if err != nil {
						t.Fatal(err)
					}
					select {
					case b := <-accepted:
						delivered++
						if b.RemotePublicKey() != alice.Public || b.Proven() {
							t.Errorf("delivered for %v, proven %v", b.RemotePublicKey(), b.Proven())
						}
						b.Close()
					case <-time.After(30 * time.Second):
					}
					if n := len(server.links.list()); !c.delivered && n != 0 {
						t.Errorf("%d streams are left", n)
					}
					s.Destroy(nil)
					server.Close()
				}
				if want := map[bool]int{true: 25}[c.delivered]; delivered != want {
					t.Errorf("%d of 25 replays were delivered, want %d", delivered, want)
				}
			})
		})
	}
}

// The first message of the client, whenever it comes, lets a connection of a peer
// through that cannot prove itself at once: what it says is not lost. A silent one
// is proved by its keep-alive.
func TestProofOfThoseThatProveLate(t *testing.T) {
	for _, c := range []struct {
		name      string
		keepAlive time.Duration
		speak     time.Duration // when the client does; 0: never
		cfg       ListenConfig
		within    time.Duration // of Accept; 0: it does not return
	}{
		{"speaks at once", -1, time.Nanosecond, ListenConfig{}, time.Second},
		{"speaks late", -1, 8 * time.Second, ListenConfig{}, 9 * time.Second},
		{"keeps alive", 0, 0, ListenConfig{}, 6 * time.Second},
		{"silent for good", -1, 0, ListenConfig{}, 0},
		{"silent, unproven ones accepted", -1, 0, ListenConfig{AcceptUnproven: true}, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 4)
				defer w.close()
				server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
				client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
				defer server.Close()
				defer client.Close()
				l := w.listen(server, c.cfg)
				defer l.Close()
				accepted := w.accept(l)
				a, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), DialConfig{plain: true, KeepAlive: c.keepAlive})
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				if c.speak > 0 {
					time.AfterFunc(c.speak, func() { a.Write([]byte("hello")) })
				}
				select {
				case b := <-accepted:
					if took := time.Since(start); took > c.within {
						t.Errorf("accepted after %v", took)
					}
					if b.Proven() == c.cfg.AcceptUnproven {
						t.Errorf("proven: %v", b.Proven())
					}
					if c.speak > 0 {
						got := make([]byte, 5)
						if _, err := io.ReadFull(b, got); err != nil || string(got) != "hello" {
							t.Errorf("read %q, %v", got, err)
						}
					}
					go b.Write([]byte("welcome"))
					got := make([]byte, 7)
					if _, err := io.ReadFull(a, got); err != nil || string(got) != "welcome" {
						t.Errorf("the client read %q, %v", got, err)
					}
				case <-time.After(30 * time.Second):
					if c.within > 0 {
						t.Error("not accepted")
					}
				}
			})
		})
	}
}

// Datagrams between two peers that prove themselves are sealed with a secret. With
// others both ends refuse them, unless they ask for the insecure form.
func TestDatagramsAreSecret(t *testing.T) {
	for _, c := range []struct {
		name            string
		plain, insecure bool
		err             error
	}{
		{"both prove", false, false, nil},
		{"one cannot", true, false, secretstream.ErrInsecureDatagrams},
		{"one cannot, insecure", true, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 4)
				defer w.close()
				server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
				client := w.ready(w.net.Host(), Config{})
				defer server.Close()
				defer client.Close()
				l := w.listen(server, ListenConfig{InsecureDatagrams: c.insecure, AcceptUnproven: true})
				defer l.Close()
				accepted := w.accept(l)
				a, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), DialConfig{plain: c.plain, InsecureDatagrams: c.insecure})
				if err != nil {
					t.Fatal(err)
				}
				b := <-accepted
				for _, ends := range [][2]*Conn{{a, b}, {b, a}} {
					ends[1].SetReadDeadline(time.Now().Add(time.Second))
					got := make([]byte, 100)
					go func() {
						time.Sleep(100 * time.Millisecond)
						if err := ends[0].Send([]byte("the password is swordfish")); !errors.Is(err, c.err) {
							t.Errorf("sent: %v", err)
						}
					}()
					n, err := ends[1].Receive(got)
					if !errors.Is(err, c.err) || err == nil && string(got[:n]) != "the password is swordfish" {
						t.Errorf("received %q, %v", got[:n], err)
					}
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// Forwarding nodes know the handshake's hash. Punch messages of two peers that
// prove themselves are sealed with what they do not know.
func TestPunchSealIsSecret(t *testing.T) {
	res := noise.Result{Hash: [64]byte{1}, Secret: [32]byte{2}}
	forwarder := &noise.Result{Hash: res.Hash}
	for _, proves := range []bool{false, true} {
		sealed := newPunchSeal(&res, proves).seal(&punchPayload{round: 3})
		for _, guess := range []bool{false, true} {
			if _, ok := newPunchSeal(forwarder, guess).open(sealed); ok != (!proves && !guess) {
				t.Errorf("sealed with the secret %v: the forwarder's guess %v opens it: %v", proves, guess, ok)
			}
		}
		if p, ok := newPunchSeal(&res, proves).open(sealed); !ok || p.round != 3 {
			t.Errorf("the peer cannot open it: %v", ok)
		}
	}
}

// Path messages open at the other end alone, in their own direction, and not with
// what an observer knows.
func TestPathSeal(t *testing.T) {
	i := noise.Result{Initiator: true, Hash: [64]byte{1}, Secret: [32]byte{2}}
	r := noise.Result{Hash: [64]byte{1}, Secret: [32]byte{2}}
	a, b := newPathSeal(&i), newPathSeal(&r)
	m := a.seal(pathChallenge, [8]byte{7})
	if kind, nonce, ok := b.open(m); !ok || kind != pathChallenge || nonce != [8]byte{7} {
		t.Errorf("opened to %d %x, %v", kind, nonce, ok)
	}
	if _, _, ok := a.open(m); ok {
		t.Error("a challenge opens where it comes from: it can be reflected")
	}
	if _, _, ok := newPathSeal(&noise.Result{Hash: r.Hash}).open(m); ok {
		t.Error("an observer opens it")
	}
	if bytes.Equal(m, a.seal(pathChallenge, [8]byte{7})) {
		t.Error("two messages are alike")
	}
	for n := range m {
		bad := bytes.Clone(m)
		bad[n] ^= 1
		if _, _, ok := b.open(bad); ok {
			t.Errorf("opens with byte %d changed", n)
		}
	}
	for n := range len(m) + 9 {
		if _, _, ok := b.open(make([]byte, n)); ok {
			t.Errorf("%d zeros open", n)
		}
	}
}

// A puppet is a client whose handshake was made from one host and whose stream
// lives on another.
type puppet struct {
	raw *udx.Stream
	sec *secretstream.Conn
}

// puppet makes a handshake from the node at, whose stream belongs to the node on.
func (w *world) puppet(at, on *Node, server *Node, l *Listener, proves bool) *puppet {
	w.t.Helper()
	raw, err := on.mux.NewStream(udx.StreamConfig{Accept: func(*udx.Stream, udp.Conn, netip.AddrPort) bool { return true }})
	if err != nil {
		w.t.Fatal(err)
	}
	key := l.PublicKey()
	d := &dial{node: at, key: key, cfg: DialConfig{KeyPair: at.keyPair}, target: TargetOf(key)}
	state, err := noise.Initialize(noise.Config{Pattern: noise.IK, Initiator: true, Prologue: nsPeerHandshake[:], Static: at.keyPair, RemoteStatic: key})
	if err != nil {
		w.t.Fatal(err)
	}
	p := noisePayload{version: payloadVersion, secretStream: 1, firewall: 1, udx: &udxInfo{id: raw.ID(), proves: proves}}
	if d.first, err = state.WriteMessage(nil, p.append(nil)); err != nil {
		w.t.Fatal(err)
	}
	d.state = state
	a, err := d.attempt(w.ctx(time.Minute), server.rpc.PublicAddr(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := raw.Connect(on.rpc.Conn(), a.payload.udx.id, server.rpc.PublicAddr(), udx.ConnectOptions{}); err != nil {
		w.t.Fatal(err)
	}
	sec, err := secretstream.New(raw, a.result, secretstream.Config{Prove: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return &puppet{raw, sec}
}

// A client that forges its packets' source from the start, and acknowledges on
// the victim's behalf, makes a server that has much to say send three times what
// came from the victim's address at the most. An honest client, at the address
// that its handshake came from, gets everything.
func TestServerFloodsNobodyAtFirst(t *testing.T) {
	for _, c := range []struct {
		name          string
		proves, forge bool
	}{{"warren", true, true}, {"reference", false, true}, {"honest reference", false, false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 4)
				defer w.close()
				server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
				client := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
				victim := client
				if c.forge {
					victim = w.ready(w.net.Host(), Config{Firewalled: isFalse()})
					defer victim.Close()
				}
				defer server.Close()
				defer client.Close()
				l := w.listen(server, ListenConfig{})
				defer l.Close()
				accepted := w.accept(l)
				p := w.puppet(client, victim, server, l, c.proves)
				go io.Copy(io.Discard, p.sec)
				const size = 1 << 20
				select {
				case b := <-accepted:
					if b != nil {
						go b.Write(make([]byte, size))
					}
				case <-time.After(20 * time.Second):
				}
				time.Sleep(20 * time.Second)
				s := p.raw.Stats()
				t.Logf("%d bytes came from the victim, %d went there", s.BytesSent, s.BytesReceived)
				if c.forge && s.BytesReceived > clientLimit+3*s.BytesSent+53 {
					t.Errorf("%d bytes went to the victim for %d", s.BytesReceived, s.BytesSent)
				}
				if !c.forge && s.BytesReceived < size {
					t.Errorf("an honest client got %d bytes", s.BytesReceived)
				}
				p.raw.Destroy(nil)
			})
		})
	}
}

// A stranger who knows the ids of an idle connection's streams sends packets from
// his own address. The owner is unaffected, at once and later, and the stranger
// gets three times what he sent at the most.
func TestStrangerDoesNotMoveAConnection(t *testing.T) {
	for _, plain := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 4)
			defer w.close()
			server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
			client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
			stranger := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
			defer server.Close()
			defer client.Close()
			defer stranger.Close()
			l := w.listen(server, ListenConfig{})
			defer l.Close()
			accepted := w.accept(l)
			a, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), DialConfig{plain: plain})
			if err != nil {
				t.Fatal(err)
			}
			b := <-accepted
			go io.Copy(b, b)
			echo := func() {
				t.Helper()
				a.SetDeadline(time.Now().Add(time.Second))
				if _, err := a.Write([]byte("still there?")); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(a, make([]byte, 12)); err != nil {
					t.Fatalf("%v: no echo: %v", b.Path(), err)
				}
			}
			echo()
			home := b.Path()
			s, err := stranger.mux.NewStream(udx.StreamConfig{ID: a.link.raw.ID(), Accept: func(*udx.Stream, udp.Conn, netip.AddrPort) bool { return true }})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Connect(stranger.rpc.Conn(), b.link.raw.ID(), server.rpc.PublicAddr(), udx.ConnectOptions{}); err != nil {
				t.Fatal(err)
			}
			const header = 20
			sent := 0
			for i := range 300 { // in thirty seconds
				s.Knock(stranger.rpc.Conn(), b.link.raw.ID(), server.rpc.PublicAddr(), nil)
				sent += header
				time.Sleep(100 * time.Millisecond)
				if i%60 == 30 {
					echo()
				}
			}
			if got := int(s.Stats().BytesReceived); got > 3*sent {
				t.Errorf("the stranger got %d bytes for %d", got, sent)
			}
			if b.Path() != home {
				t.Errorf("the connection has moved from %v to %v", home, b.Path())
			}
			echo()
			time.Sleep(time.Minute)
			echo()
			s.Destroy(nil)
			a.Close()
			<-a.Done()
		})
	}
}

// A peer without challenges keeps its connection while its address stays, and is
// not followed when it changes.
func TestReferenceIsNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		defer w.close()
		server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		router := w.net.NAT(vnet.Cone)
		client := w.ready(router.Host(), Config{})
		defer server.Close()
		defer client.Close()
		l := w.listen(server, ListenConfig{plain: true})
		defer l.Close()
		accepted := w.accept(l)
		a, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), DialConfig{plain: true})
		if err != nil {
			t.Fatal(err)
		}
		a.Write([]byte("x"))
		b := <-accepted
		home := b.Path()
		router.SetExternal()
		time.Sleep(10 * time.Second)
		if b.Path() != home {
			t.Errorf("followed from %v to %v", home, b.Path())
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if p, err := b.NextPath(ctx, home); err == nil {
			t.Errorf("moved to %v", p)
		}
	})
}

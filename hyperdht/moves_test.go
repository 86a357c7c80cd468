package hyperdht

import (
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/vnet"
)

// Where both ends want it, the next connection takes the first one's path: no
// socket is opened and no relay asked.
func TestReusableSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 12)
		defer w.close()
		server := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		defer server.Close()
		defer client.Close()
		l := w.listen(server, ListenConfig{ReusableSocket: true})
		defer l.Close()
		var sockets [2]uint64
		for i := range 5 {
			accepted := w.accept(l)
			start := time.Now()
			a, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), DialConfig{ReusableSocket: true})
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			b := <-accepted
			if a.Path().Kind != PathPunched || b.Path().Kind != PathPunched {
				t.Errorf("%d: paths %v and %v", i, a.Path(), b.Path())
			}
			now := [2]uint64{client.Stats().SocketsAdded, server.Stats().SocketsAdded}
			if i > 0 && (now != sockets || took > 150*time.Millisecond) {
				t.Errorf("%d: sockets opened %v, before %v; took %v", i, now, sockets, took)
			}
			sockets = now
			converse(t, a, b)
			<-a.Done()
			<-b.Done()
			time.Sleep(2 * time.Second)
		}
		time.Sleep(time.Minute)
		if s := client.Stats(); s.SocketsAdded != s.SocketsRemoved {
			t.Errorf("%d sockets opened, %d closed", s.SocketsAdded, s.SocketsRemoved)
		}
		// The path is gone now; the next connection has to find another.
		accepted := w.accept(l)
		a, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), DialConfig{ReusableSocket: true})
		if err != nil {
			t.Fatal(err)
		}
		converse(t, a, <-accepted)
	})
}

// moveWhileOpen connects, moves the client, and fails the test unless the two
// ends find each other again within ten seconds. The server speaks first: it has
// to find the client.
func (w *world) moveWhileOpen(client *Node, l *Listener, move func()) (a, b *Conn) {
	w.t.Helper()
	accepted := w.accept(l)
	a, err := client.Dial(w.ctx(time.Minute), l.PublicKey())
	if err != nil {
		w.t.Fatal(err)
	}
	b = <-accepted
	time.Sleep(10 * time.Second)
	move()
	start := time.Now()
	go b.Write([]byte("still there?"))
	a.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(a, make([]byte, 12)); err != nil {
		w.t.Fatal(err)
	}
	w.t.Log(time.Since(start))
	return a, b
}

// An open connection survives that its client's address changes.
func TestClientMoves(t *testing.T) {
	for _, c := range []struct {
		name string
		move func(n *vnet.Network, nat *vnet.Router, host *vnet.Host)
	}{
		{"its NAT has another address", func(_ *vnet.Network, nat *vnet.Router, _ *vnet.Host) { nat.SetExternal() }},
		{"its NAT has forgotten it", func(_ *vnet.Network, nat *vnet.Router, _ *vnet.Host) { nat.Reset() }},
		{"it is in another network", func(n *vnet.Network, _ *vnet.Router, host *vnet.Host) { host.Move(n.NAT(vnet.Cone).Segment) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 12)
				defer w.close()
				server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
				router := w.net.NAT(vnet.Cone)
				host := router.Host()
				client := w.ready(host, Config{})
				defer server.Close()
				defer client.Close()
				l := w.listen(server, ListenConfig{})
				defer l.Close()
				a, b := w.moveWhileOpen(client, l, func() { c.move(w.net, router, host) })
				converse(t, a, b)
			})
		})
	}
}

// So does a relayed one: the relay follows its client, there and back.
func TestRelayedClientMoves(t *testing.T) {
	for _, c := range []struct {
		name string
		move func(n *vnet.Network, nat *vnet.Router, host *vnet.Host)
	}{
		{"its NAT has another address", func(_ *vnet.Network, nat *vnet.Router, _ *vnet.Host) { nat.SetExternal() }},
		{"its NAT has forgotten it", func(_ *vnet.Network, nat *vnet.Router, _ *vnet.Host) { nat.Reset() }},
		{"it is in another network", func(n *vnet.Network, _ *vnet.Router, host *vnet.Host) { host.Move(n.NAT(vnet.Symmetric).Segment) }},
		{"it is in another network, and back", func(n *vnet.Network, nat *vnet.Router, host *vnet.Host) {
			home := host.Addr()
			host.Move(n.NAT(vnet.Symmetric).Segment)
			time.Sleep(10 * time.Second)
			host.Move(nat.Segment, home)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 12)
				defer w.close()
				r := relayIn(w)
				defer r.Close()
				server := w.ready(w.net.NAT(vnet.Symmetric).Host(), Config{})
				router := w.net.NAT(vnet.Symmetric)
				host := router.Host()
				client := w.ready(host, Config{})
				defer server.Close()
				defer client.Close()
				l := w.listen(server, ListenConfig{RelayThrough: []PublicKey{r.PublicKey()}})
				defer l.Close()
				a, b := w.moveWhileOpen(client, l, func() { c.move(w.net, router, host) })
				if x, y := a.Path().Kind, b.Path().Kind; x != PathRelayed || y != PathRelayed {
					t.Errorf("paths %v and %v", x, y)
				}
				converse(t, a, b)
			})
		})
	}
}

// A client that goes back and forth between two networks, where its NATs and
// hosts have kept its addresses, is followed each time.
func TestClientComesBack(t *testing.T) {
	for _, c := range []struct {
		name        string
		serverFirst bool
	}{{"the client speaks first", false}, {"the server speaks first", true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 12)
				defer w.close()
				server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
				home, away := w.net.NAT(vnet.Cone), w.net.NAT(vnet.Cone)
				host := home.Host()
				client := w.ready(host, Config{})
				l := w.listen(server, ListenConfig{})
				accepted := w.accept(l)
				a, err := client.Dial(w.ctx(time.Minute), l.PublicKey())
				if err != nil {
					t.Fatal(err)
				}
				b := <-accepted
				say := func(from, to *Conn) {
					t.Helper()
					go from.Write([]byte("still there?"))
					to.SetReadDeadline(time.Now().Add(10 * time.Second))
					if _, err := io.ReadFull(to, make([]byte, 12)); err != nil {
						t.Fatal(err)
					}
				}
				at := map[*vnet.Router][]netip.Addr{home: {host.Addr()}}
				paths := map[Path]bool{}
				for _, to := range []*vnet.Router{away, home, away, home} {
					time.Sleep(10 * time.Second)
					host.Move(to.Segment, at[to]...)
					at[to] = []netip.Addr{host.Addr()}
					if c.serverFirst {
						say(b, a)
						say(a, b)
					} else {
						say(a, b)
						say(b, a)
					}
					paths[b.Path()] = true
				}
				if len(paths) != 2 {
					t.Errorf("the paths were %v", paths)
				}
			})
		})
	}
}

// A peer that is silent time and again, and never long enough to be given up,
// does not make us dial it all the time.
func TestPeerThatComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 12)
		defer w.close()
		host, router := w.net.Host(), w.net.NAT(vnet.Cone)
		server := w.ready(host, Config{Firewalled: isFalse()})
		client := w.ready(router.Host(), Config{})
		l := w.listen(server, ListenConfig{})
		accepted := w.accept(l)
		a, err := client.Dial(w.ctx(time.Minute), l.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		b := <-accepted
		go io.Copy(io.Discard, b)
		before := client.Stats().Dials
		start, home := time.Now(), router.External()
		host.SetFilter(vnet.Filter{Out: func(_, to netip.AddrPort) bool {
			return to.Addr() != home || time.Since(start)%(4500*time.Millisecond) < 1500*time.Millisecond
		}})
		for time.Since(start) < 10*time.Minute {
			if _, err := a.Write([]byte("x")); err != nil {
				t.Fatalf("after %v: %v", time.Since(start), err)
			}
			time.Sleep(200 * time.Millisecond)
		}
		if n := client.Stats().Dials - before; n == 0 || n > 15 {
			t.Errorf("%d dials in ten minutes", n)
		} else {
			t.Log(n, "dials")
		}
	})
}

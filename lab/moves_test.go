package lab

import (
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/vnet"
)

// backWithin is how soon a server must be reachable again after its network has
// changed.
const backWithin = 10 * time.Second

// reachableAgain dials afresh until somebody gets through, and fails the test if
// that is not soon enough.
func (w *world) reachableAgain(client *vnet.Host, key hyperdht.PublicKey, within time.Duration) *hyperdht.Conn {
	t := w.t
	t.Helper()
	start := time.Now()
	for time.Since(start) < 3*within {
		n := w.join(client, hyperdht.Config{})
		began := time.Now()
		c, _, err := w.dial(n, key)
		if err != nil {
			t.Logf("%v later: %v", time.Since(start), err)
			n.Close()
			continue
		}
		t.Logf("reachable %v later, the dial took %v", time.Since(start), time.Since(began))
		if time.Since(start) > within {
			t.Errorf("reachable only after %v", time.Since(start))
		}
		talk(t, c, 1000, 5*time.Second)
		return c
	}
	t.Fatalf("not reachable within %v", 3*within)
	return nil
}

// A server is reachable again soon, whatever happens to the network that it is
// in.
func TestServerComesBack(t *testing.T) {
	type home struct {
		router *vnet.Router
		host   *vnet.Host
	}
	nats := []struct {
		name string
		nat  vnet.NAT
	}{{"cone", vnet.Cone}, {"symmetric", vnet.Symmetric}}
	for _, n := range nats {
		for _, c := range []struct {
			name   string
			happen func(*world, home)
		}{
			{"its NAT forgets everything", func(_ *world, h home) { h.router.Reset() }},
			{"its NAT gets another address", func(_ *world, h home) { h.router.SetExternal() }},
			{"it moves to another network", func(w *world, h home) { h.host.Move(w.Internet.NAT(n.nat).Segment) }},
			{"it moves to a public address", func(w *world, h home) { h.host.Move(w.Internet.Segment) }},
			{"it is offline for a minute", func(_ *world, h home) {
				h.host.SetUp(false)
				time.Sleep(time.Minute)
				h.host.SetUp(true)
			}},
			{"its NAT is off for a minute, and gets another address", func(_ *world, h home) {
				h.router.SetUplink(vnet.Link{Loss: 1})
				time.Sleep(time.Minute)
				h.router.SetExternal()
				h.router.SetUplink(vnet.Link{Latency: 10 * time.Millisecond, Hops: 4})
			}},
		} {
			t.Run(n.name+"/"+c.name, func(t *testing.T) {
				inBubble(t, dhtSize, func(w *world) {
					router := w.Internet.NAT(n.nat)
					host := router.Host()
					server := w.join(host, hyperdht.Config{})
					l := w.serve(server, hyperdht.ListenConfig{})
					client := w.Internet.NAT(vnet.Cone).Host()
					w.reachableAgain(client, l.PublicKey(), backWithin).Close()
					time.Sleep(30 * time.Second)
					c.happen(w, home{router, host})
					w.reachableAgain(client, l.PublicKey(), backWithin).Close()
				})
			})
		}
	}
}

// A relay of a server that dies, even all of them, is replaced.
func TestServerLosesItsRelays(t *testing.T) {
	inBubble(t, dhtSize, func(w *world) {
		server := w.join(w.Internet.NAT(vnet.Cone).Host(), hyperdht.Config{})
		l := w.serve(server, hyperdht.ListenConfig{})
		for _, relay := range l.Relays() {
			for _, n := range w.Nodes[1:] {
				if n.RPC().PublicAddr() == relay {
					n.Close()
				}
			}
		}
		w.reachableAgain(w.Internet.NAT(vnet.Cone).Host(), l.PublicKey(), 2*backWithin)
	})
}

// An idle connection outlives NATs that forget soon: it is kept alive. One that
// is not kept alive is taken up again by whoever can reach the other end.
func TestIdleConnection(t *testing.T) {
	forgetful := with(vnet.Cone, func(c *vnet.NAT) { c.Timeout = 20 * time.Second })
	for _, c := range []struct {
		name           string
		client, server func(*vnet.Network) *vnet.Host
		keepAlive      time.Duration // 0: the default
	}{
		{"both NATs forget", behind(forgetful), behind(forgetful), 0},
		{"symmetric NAT that forgets", behind(with(vnet.Symmetric, func(c *vnet.NAT) { c.Timeout = 20 * time.Second })), behind(forgetful), 0},
		{"not kept alive", behind(forgetful), func(n *vnet.Network) *vnet.Host { return n.Host() }, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, dhtSize, func(w *world) {
				cfg := hyperdht.Config{KeepAlive: c.keepAlive}
				server, client := w.join(c.server(w.Internet), cfg), w.join(c.client(w.Internet), cfg)
				l := w.serve(server, hyperdht.ListenConfig{})
				conn, _, err := w.dial(client, l.PublicKey())
				if err != nil {
					w.t.Fatal(err)
				}
				for _, idle := range []time.Duration{time.Minute, 10 * time.Minute, 2 * time.Hour} {
					time.Sleep(idle)
					talk(w.t, conn, 10_000, 5*time.Second)
				}
				conn.Close()
			})
		})
	}
}

// A connection survives that its client's address changes, in the middle of a
// transfer, time and again.
func TestClientWanders(t *testing.T) {
	inBubble(t, dhtSize, func(w *world) {
		server := w.join(w.Internet.Host(), hyperdht.Config{Firewalled: isFalse()})
		home := func(cfg vnet.NAT) *vnet.Router {
			r := w.Internet.NAT(cfg)
			r.SetUplink(vnet.Link{Latency: 10 * time.Millisecond, Rate: 1 << 20, Hops: 4})
			return r
		}
		router := home(vnet.Cone)
		host := router.Host()
		client := w.join(host, hyperdht.Config{})
		l := w.serve(server, hyperdht.ListenConfig{})
		conn, _, err := w.dial(client, l.PublicKey())
		if err != nil {
			w.t.Fatal(err)
		}
		const size = 24 << 20 // takes 24 s at least
		over := make(chan struct{})
		go func() {
			defer close(over)
			if err := tryTalk(conn, size, 10*time.Minute); err != nil {
				w.t.Error(err)
			}
		}()
		for i, change := range []func(){
			func() { router.SetExternal() },
			func() { router = home(vnet.Symmetric); host.Move(router.Segment) },
			func() { router.Reset() },
			func() { router = home(vnet.Cone); host.Move(router.Segment) },
			func() { router.SetExternal() },
		} {
			time.Sleep(4 * time.Second)
			select {
			case <-over:
				w.t.Fatalf("the transfer was over before change %d", i)
			default:
				change()
			}
		}
		start := time.Now()
		<-over
		w.t.Logf("over %v after the last change", time.Since(start))
		conn.Close()
	})
}

// A connection between two NATs survives that either of them changes, or that
// either end moves: the client finds the way again.
func TestPunchedConnectionFollows(t *testing.T) {
	type end struct {
		router *vnet.Router
		host   *vnet.Host
	}
	for _, c := range []struct {
		name           string
		client, server vnet.NAT
		happen         func(w *world, client, server end)
	}{
		{"the client's NAT gets another address", vnet.Cone, vnet.Cone, func(_ *world, c, _ end) { c.router.SetExternal() }},
		{"the client moves", vnet.Cone, vnet.Cone, func(w *world, c, _ end) { c.host.Move(w.Internet.NAT(vnet.Cone).Segment) }},
		{"the client moves behind a symmetric NAT", vnet.Cone, vnet.Cone, func(w *world, c, _ end) { c.host.Move(w.Internet.NAT(vnet.Symmetric).Segment) }},
		{"a symmetric NAT of the client forgets", vnet.Symmetric, vnet.Cone, func(_ *world, c, _ end) { c.router.Reset() }},
		{"the server's NAT gets another address", vnet.Cone, vnet.Cone, func(_ *world, _, s end) { s.router.SetExternal() }},
		{"the server moves", vnet.Cone, vnet.Cone, func(w *world, _, s end) { s.host.Move(w.Internet.NAT(vnet.Cone).Segment) }},
		{"both NATs forget", vnet.Cone, vnet.Cone, func(_ *world, c, s end) { c.router.Reset(); s.router.Reset() }},
		{"both move", vnet.Cone, vnet.Cone, func(w *world, c, s end) {
			c.host.Move(w.Internet.NAT(vnet.Cone).Segment)
			s.host.Move(w.Internet.NAT(vnet.Cone).Segment)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, dhtSize, func(w *world) {
				place := func(cfg vnet.NAT) end {
					r := w.Internet.NAT(cfg)
					return end{r, r.Host()}
				}
				ce, se := place(c.client), place(c.server)
				server, client := w.join(se.host, hyperdht.Config{RandomPunchInterval: -1}), w.join(ce.host, hyperdht.Config{RandomPunchInterval: -1})
				l := w.serve(server, hyperdht.ListenConfig{})
				conn, _, err := w.dial(client, l.PublicKey())
				if err != nil {
					w.t.Fatal(err)
				}
				<-l.accepted
				time.Sleep(time.Minute)
				c.happen(w, ce, se)
				start := time.Now()
				talk(w.t, conn, 100_000, 20*time.Second)
				w.t.Logf("talks again after %v, %v; %d rejoins", time.Since(start), conn.Path(), client.Stats().Rejoins)
				time.Sleep(time.Minute)
				talk(w.t, conn, 100_000, 5*time.Second)
				if n := len(l.accepted); n != 0 {
					w.t.Errorf("%d more connections were accepted", n)
				}
				conn.Close()
				time.Sleep(time.Minute)
				for _, n := range []*hyperdht.Node{client, server} {
					if s := n.Stats(); s.SocketsAdded != s.SocketsRemoved || s.Streams != 0 {
						w.t.Errorf("%d sockets and %d streams are left", s.SocketsAdded-s.SocketsRemoved, s.Streams)
					}
				}
			})
		})
	}
}

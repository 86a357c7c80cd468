package hyperdht

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/vnet"
)

// A dial whose context has ended returns at once, with the context's error and
// its cause, and leaves nothing.
func TestDialIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		server := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		l := w.listen(server, ListenConfig{})
		own := errors.New("changed my mind")
		for after := time.Duration(0); after < 150*time.Millisecond; after += 7 * time.Millisecond {
			ctx, cancel := context.WithCancelCause(context.Background())
			if after == 0 {
				cancel(own)
			}
			stop := time.AfterFunc(after, func() { cancel(own) })
			begun := time.Now()
			c, err := client.Dial(ctx, l.PublicKey())
			if err == nil {
				stop.Stop()
				c.Close()
				continue
			}
			var ce *ConnectError
			if !errors.Is(err, context.Canceled) || !errors.Is(err, own) || !errors.As(err, &ce) {
				t.Errorf("after %v: %v", after, err)
			}
			if late := time.Since(begun) - after; late > 0 {
				t.Errorf("after %v: returned %v late", after, late)
			}
			cancel(nil)
		}
		l.Close()
		time.Sleep(30 * time.Second)
		for _, n := range []*Node{client, server} {
			if s := n.Stats(); s.Streams != 0 || s.Handshakes != 0 || s.SocketsAdded != s.SocketsRemoved {
				t.Errorf("left: %d streams, %d handshakes, %d sockets", s.Streams, s.Handshakes, s.SocketsAdded-s.SocketsRemoved)
			}
		}
	})
}

// A node that listens can dial itself.
func TestDialOneself(t *testing.T) {
	for _, h := range houses[:3] {
		t.Run(h.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 8)
				defer w.close()
				n := w.ready(h.host(w.net), h.cfg)
				l := w.listen(n, ListenConfig{})
				accepted := w.accept(l)
				c, err := n.Dial(w.ctx(time.Minute), l.PublicKey())
				if err != nil {
					t.Fatal(err)
				}
				converse(t, c, <-accepted)
				l.Close()
			})
		})
	}
}

// A key is listened on once at a time, and again after Close; while it is being
// closed it is still in use.
func TestListenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		for range 3 {
			l := w.listen(server, ListenConfig{})
			if _, err := server.Listen(t.Context(), ListenConfig{}); !errors.Is(err, ErrKeyPairInUse) {
				t.Errorf("a second listener: %v", err)
			}
			accepted := w.accept(l)
			c, err := client.Dial(w.ctx(time.Minute), l.PublicKey())
			if err != nil {
				t.Fatal(err)
			}
			converse(t, c, <-accepted)
			go l.Close()
			synctest.Wait()
			if _, err := server.Listen(t.Context(), ListenConfig{}); !errors.Is(err, ErrKeyPairInUse) {
				t.Errorf("a listener while the other one is closing: %v", err)
			}
			l.Close()
		}
	})
}

// A node that is closed or suspended while a listener makes its first
// announcement, at whatever moment, leaves nothing running. (The bubble would
// notice.)
func TestCloseWhileListening(t *testing.T) {
	for after := time.Duration(0); after < 100*time.Millisecond; after += 9 * time.Millisecond {
		for _, suspend := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 6)
				defer w.close()
				n := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
				ended := make(chan error, 1)
				go func() {
					_, err := n.Listen(context.Background(), ListenConfig{})
					ended <- err
				}()
				time.Sleep(after)
				if suspend {
					n.Suspend(w.ctx(time.Second))
					n.Resume()
					n.Suspend(w.ctx(time.Second))
				}
				n.Close()
				<-ended
			})
		}
	}
}

// Closing while dials and handshakes are under way ends them at once.
func TestCloseWhileDialing(t *testing.T) {
	for after := time.Duration(0); after < 300*time.Millisecond; after += 23 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 8)
			defer w.close()
			r := relayIn(w)
			server := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
			client := w.ready(w.net.NAT(vnet.Symmetric).Host(), Config{})
			l := w.listen(server, ListenConfig{RelayThrough: []PublicKey{r.PublicKey()}})
			ended := make(chan error, 1)
			go func() {
				_, err := client.Dial(context.Background(), l.PublicKey())
				ended <- err
			}()
			time.Sleep(after)
			begun := time.Now()
			client.Close()
			if took := time.Since(begun); took > time.Second {
				t.Errorf("after %v: closing the client took %v", after, took)
			}
			if err := <-ended; err != nil && !errors.Is(err, ErrClosed) {
				t.Errorf("after %v: %v", after, err)
			}
			begun = time.Now()
			server.Close()
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("after %v: closing the server took %v", after, took)
			}
			r.Close()
		})
	}
}

// Connections that a pool serves still count against their listener's bounds,
// and leave both when they end.
func TestBoundsOfPooledConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		l := w.listen(server, ListenConfig{MaxConns: 2, MaxPeerConns: 1})
		pool := server.NewPool(DialConfig{})
		served := make(chan error, 1)
		go func() { served <- pool.Serve(l) }()
		client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		for range 5 {
			c, err := client.Dial(w.ctx(time.Minute), l.PublicKey())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := pool.Accept(w.ctx(time.Minute)); err != nil {
				t.Fatal(err)
			}
			extra, err := client.Dial(w.ctx(time.Minute), l.PublicKey())
			if err == nil {
				extra.SetReadDeadline(time.Now().Add(5 * time.Second))
				if _, err = extra.Read(make([]byte, 1)); err == nil {
					t.Error("a second connection of the peer is open")
				}
				extra.Close()
			}
			for _, p := range pool.Conns() {
				p.Close()
			}
			c.Close()
			<-c.Done()
			time.Sleep(10 * time.Second)
			if n := len(pool.Conns()); n != 0 {
				t.Errorf("%d connections stay in the pool", n)
			}
		}
		l.Close()
		<-served
		pool.Close()
	})
}

// Connections wait for Accept up to the backlog; further ones are dropped.
func TestFullBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		l := w.listen(server, ListenConfig{Backlog: 2})
		for range 4 {
			if _, err := client.Dial(w.ctx(time.Minute), l.PublicKey()); err != nil {
				t.Log(err) // dropped before it was known to be open
			}
			time.Sleep(time.Second)
		}
		if s := server.Stats(); s.Accepted != 2 || s.Limited != 2 || s.Streams != 2 {
			t.Errorf("%d accepted, %d dropped, %d streams", s.Accepted, s.Limited, s.Streams)
		}
		for range 2 {
			if _, err := l.Accept(); err != nil {
				t.Error(err)
			}
		}
	})
}

// A negative KeepAlive is none: an idle connection sends nothing.
func TestNoKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		l := w.listen(server, ListenConfig{KeepAlive: -1})
		accepted := w.accept(l)
		a, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), DialConfig{KeepAlive: -1})
		if err != nil {
			t.Fatal(err)
		}
		b := <-accepted
		time.Sleep(5 * time.Second)
		before := a.Stats().PacketsSent + b.Stats().PacketsSent
		time.Sleep(10 * time.Minute)
		if sent := a.Stats().PacketsSent + b.Stats().PacketsSent - before; sent != 0 {
			t.Errorf("%d packets in ten idle minutes", sent)
		}
	})
}

// A self-test that was cut short says nothing about the address.
func TestLocalAddrsAfterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		defer w.close()
		n := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		n.localAddrs.tested(ctx, n)
		if got := n.localAddrs.tested(context.Background(), n); len(got) == 0 {
			t.Error("an address was forgotten")
		}
	})
}

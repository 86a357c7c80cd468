package hyperdht

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/vnet"
)

func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		a := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		b := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		defer a.Close()
		defer b.Close()
		la, lb := w.listen(a, ListenConfig{}), w.listen(b, ListenConfig{})
		pa, pb := a.NewPool(DialConfig{}), b.NewPool(DialConfig{})
		var served sync.WaitGroup
		served.Go(func() { pa.Serve(la) })
		served.Go(func() { pb.Serve(lb) })

		// Many callers, one dial.
		var wg sync.WaitGroup
		conns := make([]*Conn, 5)
		for i := range conns {
			wg.Go(func() {
				c, err := pa.Dial(w.ctx(time.Minute), lb.PublicKey())
				if err != nil {
					t.Error(err)
				}
				conns[i] = c
			})
		}
		wg.Wait()
		for _, c := range conns {
			if c != conns[0] {
				t.Error("callers have different connections")
			}
		}
		if n := a.Stats().Dials; n != 1 {
			t.Errorf("%d dials", n)
		}
		in, err := pb.Accept(w.ctx(time.Minute))
		if err != nil || in.RemotePublicKey() != a.KeyPair().Public {
			t.Fatal(in, err)
		}
		// The other end has it too, so it need not dial.
		if c, err := pb.Dial(w.ctx(time.Minute), la.PublicKey()); err != nil || c != in {
			t.Errorf("dialled although there is a connection: %v", err)
		}
		// When it is over, the next dial makes a new one.
		conns[0].Close()
		in.Close()
		<-conns[0].Done()
		time.Sleep(time.Second)
		if n := len(pa.Conns()) + len(pb.Conns()); n != 0 {
			t.Errorf("%d connections in the pools", n)
		}

		// Both dial at once: both keep the same one.
		var ca, cb *Conn
		wg.Go(func() { ca, err = pa.Dial(w.ctx(time.Minute), lb.PublicKey()) })
		wg.Go(func() { cb, _ = pb.Dial(w.ctx(time.Minute), la.PublicKey()) })
		wg.Wait()
		time.Sleep(5 * time.Second)
		if ca == nil || cb == nil {
			t.Fatal("no connection", err)
		}
		xa, xb := pa.Conns(), pb.Conns()
		if len(xa) != 1 || len(xb) != 1 || xa[0].HandshakeHash() != xb[0].HandshakeHash() {
			t.Fatalf("%d and %d connections, or not the same", len(xa), len(xb))
		}
		la.Close()
		lb.Close()
		served.Wait()
		pa.Close()
		pb.Close()
		if _, err := pa.Dial(t.Context(), lb.PublicKey()); err == nil {
			t.Error("a closed pool dials")
		}
	})
}

func TestSuspendAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		client := w.ready(w.net.Host(), Config{})
		defer server.Close()
		defer client.Close()
		l := w.listen(server, ListenConfig{})
		defer l.Close()
		accepted := w.accept(l)
		c, err := client.Dial(w.ctx(time.Minute), l.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		<-accepted
		if err := server.Suspend(w.ctx(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection outlives its server's suspension")
		}
		if _, err := server.Dial(w.ctx(time.Minute), GenerateKeyPair().Public); !isCause(err, ErrSuspended) {
			t.Errorf("dial while suspended: %v", err)
		}
		if _, err := client.Dial(w.ctx(time.Minute), l.PublicKey()); err == nil {
			t.Error("a suspended server answers")
		}
		if err := server.Resume(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		accepted = w.accept(l)
		again, err := client.Dial(w.ctx(time.Minute), l.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		converse(t, again, <-accepted)
	})
}

// Who shares another caller's dial is not bound to that caller's patience.
func TestPoolDialerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		server := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		l := w.listen(server, ListenConfig{})
		pool := client.NewPool(DialConfig{})
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			_, err := pool.Dial(ctx, l.PublicKey())
			first <- err
		}()
		time.Sleep(time.Millisecond)
		time.AfterFunc(5*time.Millisecond, cancel)
		accepted := w.accept(l)
		c, err := pool.Dial(w.ctx(time.Minute), l.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the first caller: %v", err)
		}
		<-accepted

		// A connection that was closed is not handed out again, although it
		// lingers while the peer has its side open.
		c.Close()
		accepted = w.accept(l)
		again, err := pool.Dial(w.ctx(time.Minute), l.PublicKey())
		if err != nil || again == c || len(pool.Conns()) != 1 {
			t.Fatalf("after Close: %v, %d connections", err, len(pool.Conns()))
		}
		converse(t, again, <-accepted)
		pool.Close()
	})
}

// A pool's Close ends its dials, and Serve.
func TestPoolCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		server := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		l := w.listen(server, ListenConfig{})
		gone := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		nobody := w.listen(gone, ListenConfig{Allow: func(context.Context, Incoming) error { return errors.New("no") }})
		pool := server.NewPool(DialConfig{})
		ended := make(chan error, 2)
		go func() { ended <- pool.Serve(l) }()
		go func() {
			_, err := pool.Dial(context.Background(), nobody.PublicKey())
			ended <- err
		}()
		time.Sleep(time.Second)
		pool.Close()
		begun := time.Now()
		for range 2 {
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
		if took := time.Since(begun); took > 0 {
			t.Errorf("%v after Close", took)
		}
	})
}

// A node that is resumed while it is being suspended is awake in the end.
func TestResumeDuringSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		host := w.net.NAT(vnet.Cone).Host()
		server := w.ready(host, Config{})
		client := w.ready(w.net.NAT(vnet.Cone).Host(), Config{})
		l := w.listen(server, ListenConfig{})
		host.SetUp(false) // nobody hears that the listener unannounces
		suspended := make(chan error, 1)
		go func() { suspended <- server.Suspend(w.ctx(5 * time.Second)) }()
		time.Sleep(10 * time.Millisecond)
		host.SetUp(true)
		if err := server.Resume(); err != nil {
			t.Fatal(err)
		}
		if err := <-suspended; err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		accepted := w.accept(l)
		c, err := client.Dial(w.ctx(time.Minute), l.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		converse(t, c, <-accepted)
	})
}

package hyperdht

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	blind "github.com/warren-dht/warren/relay"
	"github.com/warren-dht/warren/vnet"
)

// anyRelay is a ListenConfig.AllowRelay.
func anyRelay(Incoming) bool { return true }

// relayIn starts a blind relay on a public host.
func relayIn(w *world) *RelayServer {
	w.t.Helper()
	n := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
	l := w.listen(n, ListenConfig{HideLocalAddresses: true})
	return n.ServeRelay(l, blind.Config{})
}

func TestRelayedConnections(t *testing.T) {
	for _, c := range []struct {
		name           string
		client, server vnet.NAT
		byServer       bool // the server names the relay
		want           PathKind
	}{
		{"random to random, client's relay", vnet.Symmetric, vnet.Symmetric, false, PathRelayed},
		{"random to random, server's relay", vnet.Symmetric, vnet.Symmetric, true, PathRelayed},
		{"cone to cone, client's relay", vnet.Cone, vnet.Cone, false, PathPunched},
		{"cone to random, server's relay", vnet.Cone, vnet.Symmetric, true, PathPunched},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 12)
				defer w.close()
				r := relayIn(w)
				defer r.Close()
				server := w.ready(w.net.NAT(c.server).Host(), Config{})
				client := w.ready(w.net.NAT(c.client).Host(), Config{})
				defer server.Close()
				defer client.Close()
				lc := ListenConfig{AllowRelay: anyRelay}
				var dc DialConfig
				if c.byServer {
					lc.RelayThrough = []PublicKey{r.PublicKey()}
				} else {
					dc.RelayThrough = []PublicKey{r.PublicKey()}
				}
				l := w.listen(server, lc)
				defer l.Close()
				accepted := w.accept(l)
				start := time.Now()
				a, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), dc)
				if err != nil {
					t.Fatal(err)
				}
				b := <-accepted
				t.Logf("%v: %v, %v", time.Since(start), a.Path(), b.Path())
				// A little talk keeps the connection alive until it has found
				// its best path.
				go io.Copy(b, b)
				deadline := time.Now().Add(40 * time.Second)
				for (a.Path().Kind != c.want || b.Path().Kind != c.want) && time.Now().Before(deadline) {
					if _, err := a.Write([]byte("x")); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(a, make([]byte, 1)); err != nil {
						t.Fatal(err)
					}
					time.Sleep(100 * time.Millisecond)
				}
				t.Logf("%v: %v, %v", time.Since(start), a.Path(), b.Path())
				if a.Path().Kind != c.want || b.Path().Kind != c.want {
					t.Errorf("paths are %v and %v, want %v", a.Path().Kind, b.Path().Kind, c.want)
				}
				a.Close()
				b.Close()
			})
		})
	}
}

// A transfer begins through the relay, moves to a direct path in the middle,
// loses that one and goes back to the relay, and not a byte is lost. It is of
// 256 MiB; of 32 with the race detector, which makes it take ten times as long.
func TestUpgradeAndFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 12)
		defer w.close()
		r := relayIn(w)
		defer r.Close()
		home := w.net.NAT(vnet.Cone)
		server := w.ready(home.Host(), Config{})
		away := w.net.NAT(vnet.Cone)
		host := away.Host()
		client := w.ready(host, Config{})
		defer server.Close()
		defer client.Close()
		l := w.listen(server, ListenConfig{AllowRelay: anyRelay})
		defer l.Close()
		accepted := w.accept(l)
		hold := make(chan struct{})
		a, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), DialConfig{
			RelayThrough: []PublicKey{r.PublicKey()},
			NoFastOpen:   true,
			Holepunch:    func(PunchAttempt) bool { <-hold; return true },
		})
		if err != nil {
			t.Fatal(err)
		}
		b := <-accepted
		if a.Path().Kind != PathRelayed || b.Path().Kind != PathRelayed {
			t.Fatalf("paths are %v and %v at first", a.Path(), b.Path())
		}
		want, got := sha256.New(), sha256.New()
		ended := make(chan error, 2)
		go func() {
			data := rand.NewChaCha8([32]byte{9})
			_, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(a, want)}, io.LimitReader(data, transferSize), make([]byte, 64<<10))
			a.CloseWrite()
			ended <- err
		}()
		var arrived atomic.Int64
		go func() {
			buf := make([]byte, 64<<10)
			for {
				n, err := b.Read(buf)
				got.Write(buf[:n])
				arrived.Add(int64(n))
				if err != nil {
					ended <- err
					return
				}
			}
		}()
		reach := func(within time.Duration, what string, done func() bool) {
			t.Helper()
			for end := time.Now().Add(within); !done(); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("no %s: %d bytes have arrived, on %v and %v", what, arrived.Load(), a.Path(), b.Path())
				}
			}
		}
		on := func(kind PathKind) func() bool {
			return func() bool { return a.Path().Kind == kind && b.Path().Kind == kind }
		}
		beyond := func(bytes int64) func() bool { return func() bool { return arrived.Load() >= bytes } }
		start := time.Now()
		reach(time.Minute, "first quarter", beyond(transferSize/4))
		close(hold)
		reach(5*time.Second, "punched path", on(PathPunched))
		t.Logf("%v: punched, %d bytes have arrived", time.Since(start), arrived.Load())
		reach(time.Minute, "second quarter", beyond(transferSize/2))
		// The direct path is cut: whatever the two homes send each other is lost.
		host.SetFilter(vnet.Filter{Out: notTo(home.External()), In: notTo(home.External())})
		reach(20*time.Second, "relayed path", on(PathRelayed))
		t.Logf("%v: relayed again, %d bytes have arrived", time.Since(start), arrived.Load())
		if n := arrived.Load(); n > transferSize*3/4 {
			t.Errorf("%d of %d bytes had arrived before", n, transferSize)
		}
		for range 2 {
			if err := <-ended; err != nil && err != io.EOF {
				t.Fatal(err)
			}
		}
		t.Logf("%v: over", time.Since(start))
		if n := arrived.Load(); n != transferSize || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Errorf("%d of %d bytes arrived, or something else", n, transferSize)
		}
		if s := client.Stats(); s.Upgrades == 0 || s.Fallbacks == 0 {
			t.Errorf("%d upgrades, %d fallbacks", s.Upgrades, s.Fallbacks)
		}
		a.Close()
		b.Close()
	})
}

func TestRelayThatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		server := w.ready(w.net.NAT(vnet.Symmetric).Host(), Config{})
		client := w.ready(w.net.NAT(vnet.Symmetric).Host(), Config{})
		defer server.Close()
		defer client.Close()
		l := w.listen(server, ListenConfig{AllowRelay: anyRelay})
		defer l.Close()
		_, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), DialConfig{RelayThrough: []PublicKey{GenerateKeyPair().Public}})
		if err == nil || !errors.Is(err, ErrRelayAborted) && !errors.Is(err, ErrHolepunchAborted) {
			t.Errorf("dial: %v", err)
		}
		t.Log(err)
	})
}

package hyperdht

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	blind "github.com/warren-dht/warren/relay"
	"github.com/warren-dht/warren/vnet"
)

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
				var lc ListenConfig
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
// loses that one and goes back to the relay, and not a byte is lost.
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
		l := w.listen(server, ListenConfig{})
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
		const size = 8 << 20
		data := make([]byte, size)
		rng := rand.New(rand.NewPCG(9, 9))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		sum := make(chan [32]byte, 1)
		go func() {
			h := sha256.New()
			io.Copy(h, b)
			sum <- [32]byte(h.Sum(nil))
		}()
		send := func(part []byte) {
			t.Helper()
			if _, err := io.Copy(a, bytes.NewReader(part)); err != nil {
				t.Fatal(err)
			}
		}
		reach := func(kind PathKind, within time.Duration) {
			t.Helper()
			for end := time.Now().Add(within); a.Path().Kind != kind || b.Path().Kind != kind; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("paths are %v and %v, want %v", a.Path(), b.Path(), kind)
				}
				send(data[:0])
			}
		}
		send(data[:size/4])
		close(hold)
		go func() { time.Sleep(50 * time.Millisecond) }()
		reach(PathPunched, 5*time.Second)
		send(data[size/4 : size/2])
		// The direct path is cut: whatever the two homes send each other is lost.
		host.SetFilter(vnet.Filter{Out: notTo(home.External()), In: notTo(home.External())})
		send(data[size/2:])
		reach(PathRelayed, 20*time.Second)
		a.CloseWrite()
		if got := <-sum; got != sha256.Sum256(data) {
			t.Error("something else arrived")
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
		l := w.listen(server, ListenConfig{})
		defer l.Close()
		_, err := client.DialWith(w.ctx(time.Minute), l.PublicKey(), DialConfig{RelayThrough: []PublicKey{GenerateKeyPair().Public}})
		if err == nil || !errors.Is(err, ErrRelayAborted) && !errors.Is(err, ErrHolepunchAborted) {
			t.Errorf("dial: %v", err)
		}
		t.Log(err)
	})
}

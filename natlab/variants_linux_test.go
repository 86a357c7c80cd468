package natlab

import (
	"errors"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	blind "github.com/warren-dht/warren/relay"
)

// Peers behind one box find each other on the local network; where that is
// divided, through the box's public address if it lets them.
func TestNeighbours(t *testing.T) {
	for _, c := range []struct {
		name   string
		class  Class
		places func(*Box) (client, server *Host)
		want   hyperdht.PathKind
	}{
		{"same host", Consistent, func(b *Box) (*Host, *Host) { h := b.Host(); return h, h }, hyperdht.PathLAN},
		{"same LAN", Consistent, func(b *Box) (*Host, *Host) { return b.Host(), b.Host() }, hyperdht.PathLAN},
		{"same LAN behind a random NAT", Random, func(b *Box) (*Host, *Host) { return b.Host(), b.Host() }, hyperdht.PathLAN},
		{"two LANs, routed", Consistent, func(b *Box) (*Host, *Host) { return b.Host(), b.Host2() }, hyperdht.PathLAN},
		{"two LANs, isolated, hairpin", Hairpin, func(b *Box) (*Host, *Host) { return b.Host(), b.Host2() }, hyperdht.PathPunched},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, nil, warrenDHT)
			b := w.lab.Box(c.class)
			x, y := c.places(b)
			client, server := &place{class: c.class, box: b, host: x}, &place{class: c.class, box: b, host: y}
			for _, k := range combinations() {
				t.Run(k.String(), func(t *testing.T) {
					client.scripts(t, k[0])
					server.scripts(t, k[1])
					for range *runs {
						b.Reset()
						out := w.try(t.Context(), k, client, server, conditions{})
						results.add(k, c.name, out)
						t.Log(out.took, out.client, out.server, out.err)
						if k == bothJavaScript {
							continue
						}
						if out.err != nil {
							t.Error(out.err)
						}
						for i, got := range []hyperdht.PathKind{out.client, out.server} {
							if k[i] == warren && out.err == nil && got != c.want {
								t.Errorf("paths %v and %v, want %v", out.client, out.server, c.want)
							}
						}
					}
				})
			}
		})
	}
}

const isolated = "two LANs, isolated"

// Where there is no way at all, dialling says so before the reference does.
func TestIsolated(t *testing.T) {
	t.Parallel() // it mostly waits
	w := newWorld(t, nil, warrenDHT)
	b := w.lab.Box(Isolated)
	client, server := &place{class: Isolated, box: b, host: b.Host()}, &place{class: Isolated, box: b, host: b.Host2()}
	combinations := combinations()
	if *runs == 1 {
		combinations = combinations[:1]
	}
	for _, k := range combinations {
		client.scripts(t, k[0])
		server.scripts(t, k[1])
		for range min(*runs, 3) {
			b.Reset()
			out := w.try(t.Context(), k, client, server, conditions{})
			results.add(k, isolated, out)
			t.Log(out.took, out.err)
			if k == bothJavaScript {
				continue
			}
			if out.err == nil || k[0] == warren && (!errors.Is(out.err, hyperdht.ErrHolepunchAborted) || out.took > 9*time.Second) {
				t.Errorf("%v: after %v: %v", k, out.took, out.err)
			}
		}
	}
}

var bothJavaScript = kinds{javascript, javascript}

// combinations are those of which one end is ours, and the reference with itself
// when there is to be a report.
func combinations() []kinds {
	if *runs > 1 {
		return allKinds
	}
	return allKinds[:3]
}

// A pair without a fast open, and over links that lose.
func TestConditions(t *testing.T) {
	w := newWorld(t, []Class{Consistent}, warrenDHT)
	for _, k := range combinations() {
		w.scripts(t, k)
		for _, c := range []struct {
			name string
			cond conditions
		}{
			{"no fast open", conditions{noFastOpen: true}},
			{"10 % loss", conditions{loss: 10}},
			{"20 % loss", conditions{loss: 20}},
			{"35 % loss", conditions{loss: 35}},
		} {
			if k != (kinds{warren, warren}) && *runs == 1 && c.cond.loss > 10 {
				continue // the reference gives up sometimes
			}
			t.Run(c.name+"/"+k.String(), func(t *testing.T) {
				for range *runs {
					w.consistent(t, k, c.name, c.cond)
				}
			})
		}
	}
}

// consistent connects two consistent NATs. Where half of what is sent or more
// does not get through the relays, it may fail once.
func (w *world) consistent(t *testing.T, k kinds, name string, cond conditions) {
	t.Helper()
	both := w.places[Consistent]
	for last := false; ; last = true {
		w.reset()
		out := w.try(t.Context(), k, both[0], both[1], cond)
		results.add(k, name, out)
		t.Log(out.took, out.client, out.server, out.err)
		err := pair{Consistent, Consistent}.check(out, k)
		if err == nil || k == bothJavaScript || cond.loss > 10 && k != (kinds{warren, warren}) {
			return
		}
		if last || cond.loss <= 10 {
			t.Error(err)
			return
		}
	}
}

// The DHT may be the reference's.
func TestOtherDHT(t *testing.T) {
	w := newWorld(t, []Class{Consistent}, jsDHT)
	for _, k := range combinations() {
		t.Run(k.String(), func(t *testing.T) {
			w.scripts(t, k)
			for range *runs {
				w.consistent(t, k, "a DHT of the reference", conditions{})
			}
		})
	}
}

// Through a blind relay even two random NATs connect, at once. Where a punch is
// possible the connection moves to the direct path.
func TestRelayed(t *testing.T) {
	w := newWorld(t, []Class{Consistent, Random}, warrenDHT)
	host := w.lab.Public(1)
	node, err := newWarrenPeer(t.Context(), host, w.boot, Open)
	if err != nil {
		t.Fatal(err)
	}
	defer node.close()
	l, err := node.node.Listen(t.Context(), hyperdht.ListenConfig{HideLocalAddresses: true})
	if err != nil {
		t.Fatal(err)
	}
	relay := node.node.ServeRelay(l, blind.Config{})
	defer relay.Close()
	named := []hyperdht.PublicKey{relay.PublicKey()}
	for _, c := range []struct {
		name    string
		pair    pair
		cond    conditions
		finally hyperdht.PathKind
	}{
		{"random to random, client's relay", pair{Random, Random}, conditions{clientRelay: named}, 0},
		{"random to random, server's relay", pair{Random, Random}, conditions{serverRelay: named}, 0},
		{"consistent to consistent with a relay", pair{Consistent, Consistent}, conditions{clientRelay: named}, hyperdht.PathPunched},
		{"consistent to random with a relay", pair{Consistent, Random}, conditions{clientRelay: named}, hyperdht.PathPunched},
		{"random to consistent with a relay", pair{Random, Consistent}, conditions{serverRelay: named}, hyperdht.PathPunched},
	} {
		for _, k := range combinations() {
			t.Run(c.name+"/"+k.String(), func(t *testing.T) {
				w.scripts(t, k)
				for range *runs {
					w.reset()
					c.cond.finally = c.finally
					out := w.try(t.Context(), k, w.places[c.pair[0]][0], w.places[c.pair[1]][1], c.cond)
					results.add(k, c.name, out)
					t.Logf("%v %v %v, finally %v, %v", out.took, out.client, out.server, out.finally, out.err)
					if k == bothJavaScript {
						continue
					}
					if out.err != nil {
						t.Error(out.err)
					}
					if c.finally == 0 && k[0] == warren && out.client != hyperdht.PathRelayed {
						t.Errorf("path %v", out.client)
					}
				}
			})
		}
	}
}

// Without UDP there is no way, and dialling says so soon.
func TestBlockedPeer(t *testing.T) {
	t.Parallel() // it mostly waits
	w := newWorld(t, []Class{Open, Blocked}, warrenDHT)
	out := w.connect(t, kinds{warren, warren}, pair{Blocked, Open})
	if !errors.Is(out.err, hyperdht.ErrPeerNotFound) || out.took > 5*time.Second {
		t.Errorf("after %v: %v", out.took, out.err)
	}
}

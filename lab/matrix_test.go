package lab

import (
	"errors"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/vnet"
)

// A house is a kind of place where a peer lives.
type house struct {
	name string
	cfg  hyperdht.Config
	host func(*vnet.Network) *vnet.Host
}

func behind(cfg vnet.NAT) func(*vnet.Network) *vnet.Host {
	return func(n *vnet.Network) *vnet.Host { return n.NAT(cfg).Host() }
}

func with(cfg vnet.NAT, change func(*vnet.NAT)) vnet.NAT {
	change(&cfg)
	return cfg
}

var houses = []house{
	{"open", hyperdht.Config{Firewalled: isFalse()}, func(n *vnet.Network) *vnet.Host { return n.Host() }},
	{"firewall", hyperdht.Config{}, func(n *vnet.Network) *vnet.Host {
		return n.Firewall(vnet.Firewall{Filtering: nat.AddressAndPortDependentFiltering}).Host()
	}},
	{"full cone", hyperdht.Config{}, behind(with(vnet.Cone, func(c *vnet.NAT) { c.Filtering = nat.EndpointIndependentFiltering }))},
	{"cone", hyperdht.Config{}, behind(vnet.Cone)},
	{"fragile cone", hyperdht.Config{}, behind(with(vnet.Cone, func(c *vnet.NAT) { c.Fragile = true }))},
	{"remapping cone", hyperdht.Config{}, behind(with(vnet.Cone, func(c *vnet.NAT) { c.Ports = vnet.RandomPorts }))},
	{"carrier-grade", hyperdht.Config{}, func(n *vnet.Network) *vnet.Host {
		return n.NAT(vnet.CarrierGrade).NAT(vnet.Cone).Host()
	}},
	{"symmetric", hyperdht.Config{}, behind(vnet.Symmetric)},
}

func (h house) open() bool      { return h.name == "open" }
func (h house) symmetric() bool { return h.name == "symmetric" }

// want is the path that a pair must find, 0 for none, and how long that may
// take over good links: six round trips for what is punched, four for the
// others, seconds where a port has to be found at random.
func want(client, server house) (path hyperdht.PathKind, within time.Duration) {
	switch {
	case client.open() || server.open():
		return hyperdht.PathDirect, 170 * time.Millisecond
	case client.symmetric() && server.symmetric():
		return 0, 500 * time.Millisecond
	case client.symmetric() || server.symmetric():
		return hyperdht.PathPunched, 20 * time.Second
	}
	return hyperdht.PathPunched, 250 * time.Millisecond
}

func (w *world) checkPair(client, server house, slack time.Duration) {
	t := w.t
	t.Helper()
	s := w.join(server.host(w.Internet), server.cfg)
	c := w.join(client.host(w.Internet), client.cfg)
	l := w.serve(s, hyperdht.ListenConfig{})
	conn, took, err := w.dial(c, l.PublicKey())
	path, within := want(client, server)
	if path == 0 {
		if !errors.Is(err, hyperdht.ErrHolepunchDoubleRandom) || took > within+slack {
			t.Errorf("after %v: %v", took, err)
		}
		return
	}
	if err != nil {
		t.Errorf("after %v: %v", took, err)
		return
	}
	other := <-l.accepted
	t.Logf("%v: %v, %v", took, conn.Path(), other.Path())
	if conn.Path().Kind != path || other.Path().Kind != path {
		t.Errorf("paths %v and %v, want %v", conn.Path(), other.Path(), path)
	}
	if took > within+slack {
		t.Errorf("took %v, want %v", took, within+slack)
	}
	talk(t, conn, 100_000, 30*time.Second)
	conn.Close()
	if st := w.Internet.Stats(); slack == 0 && st.Lost > 0 {
		t.Errorf("good links have lost %d datagrams", st.Lost)
	}
}

func pairs(t *testing.T, f func(t *testing.T, client, server house)) {
	for _, client := range houses {
		for _, server := range houses {
			t.Run(client.name+" to "+server.name, func(t *testing.T) { f(t, client, server) })
		}
	}
}

// Every pair of places connects, over the way and in the time that it should.
func TestMatrix(t *testing.T) {
	pairs(t, func(t *testing.T, client, server house) {
		inBubble(t, dhtSize, func(w *world) { w.checkPair(client, server, 0) })
	})
}

// The same over links that lose, delay, repeat and reorder.
func TestMatrixOverBadLinks(t *testing.T) {
	luck := 0
	pairs(t, func(t *testing.T, client, server house) {
		luck++
		inBubble(t, dhtSize, func(w *world) {
			w.draw(luck)
			w.Internet.SetLink(vnet.Link{
				Latency: 10 * time.Millisecond, Jitter: 20 * time.Millisecond, Hops: 4,
				Loss: 0.05, Duplicate: 0.02, Reorder: 0.05,
			})
			w.checkPair(client, server, 10*time.Second)
		})
	})
}

package lab

import (
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/vnet"
)

// A neighbourhood is two places whose public address is the same.
type neighbourhood struct {
	name string
	two  func(*vnet.Network) (client, server *vnet.Host)
	path hyperdht.PathKind
	// within is how long a dial takes at most over good links, without latency
	// but for that of the public network.
	within time.Duration
}

// Whoever is in one local network with a peer meets it there, whether the NAT
// before them has a hairpin or not, and if that does not lead anywhere the punch
// does. Nobody waits for anything: neither end is ready when it is dialled.
func TestLAN(t *testing.T) {
	hairpin := with(vnet.Cone, func(c *vnet.NAT) { c.Hairpin = true })
	same := func(cfg vnet.NAT) func(*vnet.Network) (_, _ *vnet.Host) {
		return func(n *vnet.Network) (_, _ *vnet.Host) {
			r := n.NAT(cfg)
			return r.Host(), r.Host()
		}
	}
	for _, p := range []neighbourhood{
		{"one LAN", same(vnet.Cone), hyperdht.PathLAN, 500 * time.Millisecond},
		{"one LAN, hairpin", same(hairpin), hyperdht.PathLAN, 500 * time.Millisecond},
		{"one LAN, symmetric NAT", same(vnet.Symmetric), hyperdht.PathLAN, 500 * time.Millisecond},
		{"one LAN, the server's firewall swallows it", func(n *vnet.Network) (_, _ *vnet.Host) {
			r := n.NAT(hairpin)
			server := r.Host()
			server.SetFilter(vnet.Filter{In: vnet.NotPrivate, Out: vnet.NotPrivate})
			return r.Host(), server
		}, hyperdht.PathPunched, 800 * time.Millisecond},
		{"two homes of one carrier, same address within", func(n *vnet.Network) (_, _ *vnet.Host) {
			carrier := n.NAT(vnet.CarrierGrade)
			return carrier.NAT(vnet.Cone).Host(), carrier.NAT(vnet.Cone).Host()
		}, hyperdht.PathPunched, 800 * time.Millisecond},
		{"two homes of one carrier, a stranger has the server's address", func(n *vnet.Network) (_, _ *vnet.Host) {
			carrier := n.NAT(vnet.CarrierGrade)
			home := carrier.NAT(vnet.Cone)
			home.Host()
			return home.Host(), carrier.NAT(vnet.Cone).Host()
		}, hyperdht.PathPunched, 800 * time.Millisecond},
	} {
		t.Run(p.name, func(t *testing.T) {
			for wait := time.Duration(0); wait < 2*time.Second; wait = 2*wait + 7*time.Millisecond {
				inBubble(t, dhtSize, func(w *world) {
					client, server := p.two(w.Internet)
					l := w.serve(w.begin(server), hyperdht.ListenConfig{})
					c := w.begin(client)
					time.Sleep(wait)
					conn, took, err := w.dial(c, l.PublicKey())
					if err != nil {
						t.Fatalf("after %v, dialled %v from its start: %v", took, wait, err)
					}
					other := <-l.accepted
					if conn.Path().Kind != p.path || other.Path().Kind != p.path {
						t.Errorf("dialled %v from its start: paths %v and %v, want %v", wait, conn.Path(), other.Path(), p.path)
					}
					if took > p.within {
						t.Errorf("dialled %v from its start: took %v, want %v", wait, took, p.within)
					}
					talk(t, conn, 10_000, 5*time.Second)
				})
			}
		})
	}
}

// begin starts a node on a host and does not wait for anything.
func (w *world) begin(h *vnet.Host) *hyperdht.Node {
	w.t.Helper()
	cfg := w.Config(hyperdht.Config{})
	cfg.Network = h
	n, err := hyperdht.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { n.Close() })
	return n
}

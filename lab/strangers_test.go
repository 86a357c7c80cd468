package lab

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/vnet"
)

// A stranger is a host that has nothing to do with anything. It counts what it
// hears.
type stranger struct {
	addr  netip.AddrPort
	heard atomic.Int64
}

func (w *world) stranger() *stranger {
	h := w.Internet.Host()
	s := &stranger{addr: netip.AddrPortFrom(h.Addr(), 4000)}
	h.SetFilter(vnet.Filter{In: func(_, _ netip.AddrPort) bool { s.heard.Add(1); return true }})
	return s
}

// none returns no address.
var none netip.AddrPort

// Nobody can make the nodes of the network, or a server, send anything to
// somebody who has not asked for it.
func TestStrangersHearNothing(t *testing.T) {
	fullCone := houses[2].host
	for _, c := range []struct {
		name   string
		attack func(w *world, a *attacker, server, listener *echo, s netip.AddrPort)
	}{
		{"handshakes for other relays", func(w *world, a *attacker, server, _ *echo, s netip.AddrPort) {
			for _, n := range w.Nodes {
				h := a.shake(server.PublicKey(), 0)
				a.tell(n.RPC().PublicAddr(), peerHandshake, h.key, h.message(fromClient, none, s))
				a.tell(n.RPC().PublicAddr(), peerHandshake, h.key, h.message(fromClient, s, s))
				other := a.shake(hyperdht.GenerateKeyPair().Public, 0)
				a.tell(n.RPC().PublicAddr(), peerHandshake, other.key, other.message(fromClient, none, s))
			}
		}},
		{"answers nobody waits for", func(w *world, a *attacker, server, _ *echo, s netip.AddrPort) {
			for _, n := range w.Nodes {
				h := a.shake(server.PublicKey(), 0)
				a.tell(n.RPC().PublicAddr(), peerHandshake, h.key, h.message(fromServer, s, none))
				a.tell(n.RPC().PublicAddr(), peerHolepunch, h.key, h.punch(fromServer, punch{}, s))
			}
		}},
		{"punch messages for strangers", func(w *world, a *attacker, server, _ *echo, s netip.AddrPort) {
			for _, n := range w.Nodes {
				h := a.shake(server.PublicKey(), 0)
				a.tell(n.RPC().PublicAddr(), peerHolepunch, h.key, h.punch(fromClient, punch{}, s))
				a.tell(n.RPC().PublicAddr(), peerHolepunch, hyperdht.GenerateKeyPair().Public, h.punch(fromClient, punch{}, s))
			}
		}},
		{"a client that is said to be elsewhere", func(w *world, a *attacker, server, _ *echo, s netip.AddrPort) {
			for _, relay := range server.Relays() {
				for _, firewall := range []uint64{0, 1} {
					h := a.shake(server.PublicKey(), firewall)
					a.tell(relay, peerHandshake, h.key, h.message(fromRelay, s, none))
					a.tell(relay, peerHandshake, h.key, h.message(fromSecondRelay, s, s))
				}
			}
		}},
		{"a relay that is none", func(w *world, a *attacker, server, open *echo, s netip.AddrPort) {
			// The server is directly reachable at the address that its relays
			// see.
			h := a.shake(server.PublicKey(), 0)
			r, err := a.ask(server.Relays()[0], peerHandshake, h.key, h.message(fromClient, none, none))
			if err != nil {
				a.t.Fatal(err)
			}
			h.finish(a.t, r)
			for _, firewall := range []uint64{0, 1} {
				for _, to := range []struct {
					at  netip.AddrPort
					key hyperdht.PublicKey
				}{{h.self[0], h.key}, {open.Relays()[0], open.PublicKey()}} {
					h := a.shake(to.key, firewall)
					a.tell(to.at, peerHandshake, h.key, h.message(fromRelay, s, none))
					h = a.shake(to.key, firewall)
					a.tell(to.at, peerHandshake, h.key, h.message(fromSecondRelay, s, s))
					h = a.shake(to.key, firewall)
					a.tell(to.at, peerHandshake, h.key, h.message(fromSecondRelay, netip.AddrPortFrom(a.host.Addr(), 1), s))
				}
			}
			// A punch is told to have come through a relay from a stranger.
			p := punch{firewall: 2, punching: true, addresses: []netip.AddrPort{s}}
			a.tell(h.self[0], peerHolepunch, h.key, h.punch(fromRelay, p, s))
			for round := range 4 {
				p.round = uint64(round)
				r, err := a.ask(h.relays[0], peerHolepunch, h.key, h.punch(fromClient, p, h.self[0]))
				if err != nil {
					break
				}
				token, addrs := h.answer(a.t, r)
				p.remoteToken = token
				if len(addrs) > 0 {
					p.remote = addrs[0]
				}
				a.tell(h.self[0], peerHolepunch, h.key, h.punch(fromRelay, p, s))
			}
		}},
		{"lists of strangers", func(w *world, a *attacker, server, _ *echo, s netip.AddrPort) {
			for firewall := range uint64(4) {
				h := a.shake(server.PublicKey(), 0)
				r, err := a.ask(server.Relays()[0], peerHandshake, h.key, h.message(fromClient, none, none))
				if err != nil {
					a.t.Fatal(err)
				}
				h.finish(a.t, r)
				list := make([]netip.AddrPort, 50)
				for i := range list {
					list[i] = netip.AddrPortFrom(s.Addr(), uint16(4000+i))
				}
				list[49] = netip.AddrPortFrom(s.Addr(), 0)
				p := punch{firewall: firewall, addresses: list, token: &[32]byte{1}}
				for round := range uint64(3) {
					p.round, p.punching = round, round > 0
					r, err := a.ask(h.relays[0], peerHolepunch, h.key, h.punch(fromClient, p, h.self[0]))
					if err != nil {
						break
					}
					p.remoteToken, _ = h.answer(a.t, r)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, dhtSize, func(w *world) {
				server := w.serve(w.join(fullCone(w.Internet), hyperdht.Config{}), hyperdht.ListenConfig{})
				open := w.serve(w.join(w.Internet.Host(), hyperdht.Config{Firewalled: isFalse()}), hyperdht.ListenConfig{})
				s := w.stranger()
				a := w.attacker()
				before := s.heard.Load()
				c.attack(w, a, server, open, s.addr)
				time.Sleep(time.Minute)
				if n := s.heard.Load() - before; n != 0 {
					w.t.Errorf("the stranger has heard %d datagrams", n)
				}
				if n := len(server.accepted) + len(open.accepted); n != 0 {
					w.t.Errorf("%d connections were accepted", n)
				}
				// All is well.
				c := w.join(w.Internet.NAT(vnet.Cone).Host(), hyperdht.Config{})
				for _, l := range []*echo{server, open} {
					conn, _, err := w.dial(c, l.PublicKey())
					if err != nil {
						w.t.Error(err)
						continue
					}
					talk(w.t, conn, 100, time.Second)
					conn.Close()
				}
			})
		})
	}
}

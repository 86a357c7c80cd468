package attacks

import (
	"crypto/rand"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/internal/sodium"
)

// A punch is what a client says in a PEER_HOLEPUNCH (docs/spec/hyperdht-connect.md
// §3.7).
type punch struct {
	round       uint64
	punching    bool
	addresses   []netip.AddrPort
	remoteToken *[32]byte
}

// seal encrypts the message and returns the value of the request.
func (p punch) seal(key *[32]byte, id uint64, server netip.AddrPort) []byte {
	flags := uint64(4 | 16) // addresses, token
	if p.punching {
		flags |= 2
	}
	if p.remoteToken != nil {
		flags |= 32
	}
	b := compact.AppendUint(nil, flags)
	b = compact.AppendUint(b, 0) // error
	b = compact.AppendUint(b, 2) // firewall: consistent
	b = compact.AppendUint(b, p.round)
	b = compact.AppendAddrs(b, p.addresses)
	b = append(b, make([]byte, 32)...)
	if p.remoteToken != nil {
		b = append(b, p.remoteToken[:]...)
	}
	var nonce [24]byte
	rand.Read(nonce[:])
	sealed := sodium.SealSecretbox(nonce[:], b, &nonce, key)
	out := compact.AppendUint(nil, 1) // with the peer's address
	out = compact.AppendUint(out, fromClient)
	out = compact.AppendUint(out, id)
	out = compact.AppendBuffer(out, sealed)
	return compact.AppendAddr(out, server)
}

// tokenOf reads the server's token out of its answer to a punch.
func tokenOf(key *[32]byte, value []byte) *[32]byte {
	r := compact.NewReader(value)
	r.Uint()
	r.Uint()
	r.Uint()
	sealed := r.Buffer()
	if r.Err() != nil || len(sealed) < 24 {
		return nil
	}
	plain, ok := sodium.OpenSecretbox(nil, sealed[24:], (*[24]byte)(sealed), key)
	if !ok {
		return nil
	}
	p := compact.NewReader(plain)
	flags := p.Uint()
	p.Uint()
	p.Uint()
	p.Uint()
	if flags&4 != 0 {
		p.Addrs()
	}
	if flags&8 != 0 {
		p.Addr()
	}
	if flags&16 == 0 {
		return nil
	}
	return p.Fixed32()
}

// Punch messages, repeated or not, that name a bystander, or that come from its
// forged address, make a server send it nothing.
func TestPunchesAtABystander(t *testing.T) {
	need(t)
	const handshakes = 5
	replays := 100
	if *full {
		replays = 300
	}
	w := newNetwork(t, 20, nil)
	s := start(t, "listening", "listen", "--echo", "--firewalled=true", "--bootstrap", w.boot[0])
	to := w.forwarders(w.join("7.255.0.1", nil), s.key)
	target := [32]byte(hyperdht.TargetOf(s.key))
	ns := sodium.Namespace("hyperswarm/dht", peerHolepunch)
	for round, c := range []struct {
		name      string
		bystander netip.AddrPort
		forged    bool // the repeated messages come from the bystander's address
	}{
		{"named, a port of the attacker's host", netip.MustParseAddrPort("8.6.0.1:5000"), false},
		{"forged, a port of the attacker's host", netip.MustParseAddrPort("8.6.1.1:5000"), true},
		{"named, another host", netip.MustParseAddrPort("9.6.0.1:5000"), false},
		{"forged, another host", netip.MustParseAddrPort("9.6.1.1:5000"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var punches atomic.Int64
			bystander := bind(t, c.bystander.String(), func(_ []byte, from netip.AddrPort) {
				if from.Addr().String() == serverHost {
					punches.Add(1)
				}
			})
			attacker := newRequester(t, netip.AddrPortFrom(netip.AddrFrom4([4]byte{8, 6, byte(round), 1}), 4000).String(), nil)
			answered, sent := 0, 0
			for range handshakes {
				h := shake(t, s.key, hyperdht.GenerateKeyPair(), clientHello{})
				m, ok := attacker.ask(request{to: to[0], command: peerHandshake, target: &target, value: handshakeValue(h.first)})
				if !ok || m.value == nil {
					continue
				}
				hello, ok := h.finish(noiseOf(m.value))
				if !ok || len(hello.relays) == 0 {
					t.Fatal("the server does not punch")
				}
				res, err := h.state.Split()
				if err != nil {
					t.Fatal(err)
				}
				key := sodium.KeyedSum256(res.Hash[:], ns[:])
				p := punch{addresses: []netip.AddrPort{attacker.at, c.bystander}}
				var last request
				for p.round < 3 {
					i := int(p.round) % len(hello.relays)
					last = request{to: hello.relays[i], command: peerHolepunch, target: &target, value: p.seal(&key, hello.punch, hello.self[i])}
					if m, ok := attacker.ask(last); ok && m.value != nil {
						answered++
						p.remoteToken = tokenOf(&key, m.value)
					}
					p.round++
					p.punching = true
				}
				from := attacker.socket
				if c.forged {
					from = bystander
				}
				for i := range replays {
					last.tid = unasked | uint16(i)
					from.send(last.to, last.bytes())
					sent++
					time.Sleep(time.Millisecond)
				}
			}
			time.Sleep(time.Second)
			if answered < handshakes {
				t.Errorf("the server answered %d punch messages of %d handshakes", answered, handshakes)
			}
			result(t, punches.Load() == 0, "punch messages: bystander "+c.name, "0 packets", "%d packets for %d repeated messages", punches.Load(), sent)
		})
	}
}

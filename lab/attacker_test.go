package lab

import (
	"context"
	"crypto/rand"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/internal/sodium"
	"github.com/warren-dht/warren/noise"
	"github.com/warren-dht/warren/vnet"
)

// Commands and modes of forwarded messages (docs/spec/hyperdht-connect.md §2.4).
const (
	peerHandshake = 0
	peerHolepunch = 1

	fromClient      = 0
	fromServer      = 1
	fromRelay       = 2
	fromSecondRelay = 3
)

// An attacker writes its own messages, and reads the answers.
type attacker struct {
	t    *testing.T
	host *vnet.Host
	rpc  *dhtrpc.Node
}

func (w *world) attacker() *attacker {
	w.t.Helper()
	h := w.Internet.Host()
	n, err := dhtrpc.Listen(dhtrpc.Config{Network: h, Bootstrap: w.Bootstrap, Ephemeral: dhtrpc.Always, Firewalled: isFalse()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { n.Close() })
	if err := n.Ready(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return &attacker{w.t, h, n}
}

// tell sends a message once and does not wait for the answer.
func (a *attacker) tell(to netip.AddrPort, command uint64, key hyperdht.PublicKey, value []byte) {
	target := hyperdht.TargetOf(key)
	ctx, cancel := context.WithCancel(a.t.Context())
	cancel2 := time.AfterFunc(10*time.Millisecond, cancel)
	defer cancel2.Stop()
	a.rpc.Request(ctx, to, dhtrpc.Message{Command: command, Target: (*dhtrpc.ID)(&target), Value: value}, dhtrpc.NoRetry())
	cancel()
}

// ask is tell for somebody who wants to know.
func (a *attacker) ask(to netip.AddrPort, command uint64, key hyperdht.PublicKey, value []byte) (dhtrpc.Reply, error) {
	target := hyperdht.TargetOf(key)
	return a.rpc.Request(a.t.Context(), to, dhtrpc.Message{Command: command, Target: (*dhtrpc.ID)(&target), Value: value})
}

// A handshake is one of an attacker's with a server, as far as it has come.
type handshake struct {
	key   hyperdht.PublicKey
	state noise.HandshakeState
	first []byte

	id     uint64           // the server's handle
	relays []netip.AddrPort // of the server
	self   []netip.AddrPort // the server as each of them sees it
	seal   [32]byte         // the key of punch messages
}

// shake begins a handshake with the holder of a key. Firewall is what we say of
// ourselves: 0 unknown, 1 open.
func (a *attacker) shake(key hyperdht.PublicKey, firewall uint64) *handshake {
	a.t.Helper()
	return a.shakeThrough(key, firewall, hyperdht.PublicKey{})
}

// shakeThrough is shake for a client that names a blind relay, unless that is
// zero.
func (a *attacker) shakeThrough(key hyperdht.PublicKey, firewall uint64, relay hyperdht.PublicKey) *handshake {
	a.t.Helper()
	prologue := sodium.Namespace("hyperswarm/dht", peerHandshake)
	state, err := noise.Initialize(noise.Config{
		Pattern: noise.IK, Initiator: true, Prologue: prologue[:], Static: hyperdht.GenerateKeyPair(), RemoteStatic: key,
	})
	if err != nil {
		a.t.Fatal(err)
	}
	var id [4]byte
	rand.Read(id[:])
	flags := uint64(8 | 16) // udx, secretStream
	if !relay.IsZero() {
		flags |= 32
	}
	p := compact.AppendUint(nil, 1) // version
	p = compact.AppendUint(p, flags)
	p = compact.AppendUint(p, 0) // error
	p = compact.AppendUint(p, firewall)
	p = compact.AppendUint(p, 1) // udx version, features, id, seq
	p = compact.AppendUint(p, 0)
	p = compact.AppendUint(p, uint64(id[0])|uint64(id[1])<<8|uint64(id[2])<<16|uint64(id[3])<<24)
	p = compact.AppendUint(p, 0)
	p = compact.AppendUint(p, 1) // secretStream version
	if !relay.IsZero() {
		p = compact.AppendUint(p, 1) // version and flags
		p = compact.AppendUint(p, 0)
		p = append(p, relay[:]...)
		p = append(p, make([]byte, 32)...) // a token
	}
	h := &handshake{key: key, state: state}
	if h.first, err = h.state.WriteMessage(nil, p); err != nil {
		a.t.Fatal(err)
	}
	return h
}

// message is a PEER_HANDSHAKE with the handshake's first message; the addresses
// are left out if they are invalid.
func (h *handshake) message(mode uint64, peer, relay netip.AddrPort) []byte {
	return handshakeValue(mode, h.first, peer, relay)
}

func handshakeValue(mode uint64, noise []byte, peer, relay netip.AddrPort) []byte {
	var flags uint64
	if peer.IsValid() {
		flags |= 1
	}
	if relay.IsValid() {
		flags |= 2
	}
	b := compact.AppendUint(nil, flags)
	b = compact.AppendUint(b, mode)
	b = compact.AppendBuffer(b, noise)
	for _, at := range []netip.AddrPort{peer, relay} {
		if at.IsValid() {
			b = compact.AppendAddr(b, at)
		}
	}
	return b
}

// finish reads the server's answer.
func (h *handshake) finish(t *testing.T, r dhtrpc.Reply) {
	t.Helper()
	in := compact.NewReader(r.Value)
	in.Uint()
	in.Uint()
	plain, err := h.state.ReadMessage(nil, in.Buffer())
	if err != nil {
		t.Fatalf("the answer %x: %v", r.Value, err)
	}
	p := compact.NewReader(plain)
	version, flags := p.Uint(), p.Uint()
	p.Uint()
	p.Uint()
	if version != 1 || flags&1 == 0 {
		t.Fatalf("the server does not punch: %x", plain)
	}
	h.id = p.Uint()
	for range p.Uint() {
		h.relays = append(h.relays, p.Addr())
		h.self = append(h.self, p.Addr())
	}
	res, err := h.state.Split()
	if err != nil || p.Err() != nil {
		t.Fatal(err, p.Err())
	}
	ns := sodium.Namespace("hyperswarm/dht", peerHolepunch)
	h.seal = sodium.KeyedSum256(res.Hash[:], ns[:])
}

// A punch is the plaintext of a punch message (§3.7).
type punch struct {
	firewall, round uint64
	punching        bool
	addresses       []netip.AddrPort
	remote          netip.AddrPort
	token           *[32]byte
	remoteToken     *[32]byte
}

// punch is a PEER_HOLEPUNCH of the handshake.
func (h *handshake) punch(mode uint64, p punch, peer netip.AddrPort) []byte {
	var flags uint64
	for i, on := range []bool{false, p.punching, true, p.remote.IsValid(), p.token != nil, p.remoteToken != nil} {
		if on {
			flags |= 1 << i
		}
	}
	b := compact.AppendUint(nil, flags)
	b = compact.AppendUint(b, 0)
	b = compact.AppendUint(b, p.firewall)
	b = compact.AppendUint(b, p.round)
	b = compact.AppendAddrs(b, p.addresses)
	if p.remote.IsValid() {
		b = compact.AppendAddr(b, p.remote)
	}
	for _, token := range []*[32]byte{p.token, p.remoteToken} {
		if token != nil {
			b = append(b, token[:]...)
		}
	}
	var nonce [24]byte
	rand.Read(nonce[:])
	sealed := sodium.SealSecretbox(nonce[:], b, &nonce, &h.seal)
	out := compact.AppendUint(nil, 1)
	out = compact.AppendUint(out, mode)
	out = compact.AppendUint(out, h.id)
	out = compact.AppendBuffer(out, sealed)
	return compact.AppendAddr(out, peer)
}

// answer reads the server's token and addresses from an answer to a punch
// message.
func (h *handshake) answer(t *testing.T, r dhtrpc.Reply) (token *[32]byte, addresses []netip.AddrPort) {
	t.Helper()
	in := compact.NewReader(r.Value)
	in.Uint()
	in.Uint()
	in.Uint()
	sealed := in.Buffer()
	if len(sealed) < 24 {
		t.Fatalf("the answer %x", r.Value)
	}
	plain, ok := sodium.OpenSecretbox(nil, sealed[24:], (*[24]byte)(sealed), &h.seal)
	if !ok {
		t.Fatal("the answer does not open")
	}
	p := compact.NewReader(plain)
	flags := p.Uint()
	p.Uint()
	p.Uint()
	p.Uint()
	if flags&4 != 0 {
		for range p.Uint() {
			addresses = append(addresses, p.Addr())
		}
	}
	if flags&8 != 0 {
		p.Addr()
	}
	if flags&16 != 0 {
		token = p.Fixed32()
	}
	return token, addresses
}

package attacks

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/crypto/blake2b"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/internal/sodium"
	"github.com/warren-dht/warren/noise"
)

// Modes of forwarded messages (docs/spec/hyperdht-connect.md §2.4).
const fromClient = 0

// A clientHello is what a client says in its first message
// (docs/spec/hyperdht-connect.md §3.4).
type clientHello struct {
	open         bool
	features     uint64
	relayThrough *hyperdht.PublicKey // the blind relay that it names
}

// A handshake is one of an attacker's with a server, after the first message.
type handshake struct {
	state noise.HandshakeState
	first []byte
}

// shake makes a first message to the holder of a key.
func shake(t *testing.T, to hyperdht.PublicKey, me hyperdht.KeyPair, hello clientHello) *handshake {
	t.Helper()
	prologue := sodium.Namespace("hyperswarm/dht", peerHandshake)
	state, err := noise.Initialize(noise.Config{
		Pattern: noise.IK, Initiator: true, Prologue: prologue[:], Static: me, RemoteStatic: to,
	})
	if err != nil {
		t.Fatal(err)
	}
	var id [4]byte
	rand.Read(id[:])
	flags, firewall := uint64(8|16), uint64(0) // udx, secretStream
	if hello.open {
		firewall = 1
	}
	if hello.relayThrough != nil {
		flags |= 32
	}
	p := compact.AppendUint(nil, 1) // version
	p = compact.AppendUint(p, flags)
	p = compact.AppendUint(p, 0) // error
	p = compact.AppendUint(p, firewall)
	p = compact.AppendUint(p, 1) // udx: version, features, id, seq
	p = compact.AppendUint(p, hello.features)
	p = compact.AppendUint(p, uint64(binary.LittleEndian.Uint32(id[:])))
	p = compact.AppendUint(p, 0)
	p = compact.AppendUint(p, 1) // secretStream: version
	if r := hello.relayThrough; r != nil {
		p = compact.AppendUint(p, 1)
		p = compact.AppendUint(p, 0)
		p = append(p, r[:]...)
		token := make([]byte, 32)
		rand.Read(token)
		p = append(p, token...)
	}
	h := &handshake{state: state}
	if h.first, err = h.state.WriteMessage(nil, p); err != nil {
		t.Fatal(err)
	}
	return h
}

// shakes makes many first messages, on all processors.
func shakes(t *testing.T, n int, to hyperdht.PublicKey, hello clientHello) [][]byte {
	t.Helper()
	me := hyperdht.GenerateKeyPair()
	out := make([][]byte, n)
	parallel(n, func(i int) { out[i] = shake(t, to, me, hello).first })
	return out
}

// handshakeValue is the value of a PEER_HANDSHAKE of a client.
func handshakeValue(first []byte) []byte {
	b := compact.AppendUint(nil, 0)
	b = compact.AppendUint(b, fromClient)
	return compact.AppendBuffer(b, first)
}

// noiseOf reads the Noise message out of the value of a PEER_HANDSHAKE.
func noiseOf(value []byte) []byte {
	r := compact.NewReader(value)
	r.Uint()
	r.Uint()
	n := r.Buffer()
	if r.Err() != nil {
		return nil
	}
	return slices.Clone(n)
}

// A serverHello is what the attacker needs of the server's answer.
type serverHello struct {
	stream uint32 // the id of its stream
	punch  uint64 // its handle of the punch
	relays []netip.AddrPort
	self   []netip.AddrPort // the server as each of them sees it
}

// finish opens the server's answer.
func (h *handshake) finish(answer []byte) (s serverHello, ok bool) {
	plain, err := h.state.ReadMessage(nil, answer)
	if err != nil {
		return s, false
	}
	r := compact.NewReader(plain)
	r.Uint()
	flags := r.Uint()
	r.Uint()
	r.Uint()
	if flags&1 != 0 {
		s.punch = r.Uint()
		for range r.Count(2 * compact.AddrSize) {
			s.relays = append(s.relays, r.Addr())
			s.self = append(s.self, r.Addr())
		}
	}
	if flags&2 != 0 {
		r.Addrs()
	}
	if flags&8 != 0 {
		r.Uint()
		r.Uint()
		s.stream = uint32(r.Uint())
	}
	return s, r.Err() == nil
}

// publicHash computes the handshake hash of a connection from what is on the
// wire: the server's key and both messages (docs/spec/noise.md).
func publicHash(server hyperdht.PublicKey, first, second []byte) []byte {
	h := make([]byte, 64)
	copy(h, "Noise_IK_Ed25519_ChaChaPoly_BLAKE2b")
	mix := func(b []byte) {
		sum := blake2b.Sum512(slices.Concat(h, b))
		h = sum[:]
	}
	prologue := sodium.Namespace("hyperswarm/dht", peerHandshake)
	mix(prologue[:])
	mix(server[:])
	for _, part := range [][]byte{first[:32], first[32:80], first[80:], second[:32], second[32:]} {
		mix(part)
	}
	return h
}

// headerOf is the frame with which the client's side of an encrypted stream
// begins, made from the handshake hash alone (docs/spec/secret-stream.md §8.1).
func headerOf(hash []byte) []byte {
	ns := sodium.Namespace("hyperswarm/secret-stream", 0)
	id := sodium.KeyedSum256(hash, ns[:])
	frame := append([]byte{56, 0, 0}, id[:]...)
	return append(frame, make([]byte, 24)...)
}

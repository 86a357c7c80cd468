package noise

import (
	"bytes"
	rfc5869 "crypto/hkdf"
	"errors"
	"fmt"
	"hash"
	"testing"

	"golang.org/x/crypto/blake2b"

	"github.com/warren-dht/warren/internal/sodium"
	"github.com/warren-dht/warren/internal/vectors"
)

type hx = vectors.Hex

type sideVector struct {
	StaticSeed      hx `json:"static_seed"`
	StaticPublic    hx `json:"static_public"`
	EphemeralSeed   hx `json:"ephemeral_seed"`
	EphemeralPublic hx `json:"ephemeral_public"`
}

type stateVector struct {
	H, CK, K hx
	N        uint64
}

type handshakeVector struct {
	Name, Pattern, Protocol string
	Prologue                hx
	Initiator, Responder    sideVector
	AfterInitialise         stateVector `json:"after_initialise"`
	Messages                []struct {
		From             string
		Payload, Message hx
		After            *stateVector
	}
	InitiatorTx         hx `json:"initiator_tx"`
	InitiatorRx         hx `json:"initiator_rx"`
	HandshakeHash       hx `json:"handshake_hash"`
	ResponderSeesStatic hx `json:"responder_sees_static"`
}

// noiseVectors is testdata/noise.json but for: blake2b_256_of_public_key and
// discovery_key of key_pairs, hashes and namespaces, which package sodium
// checks; z32_examples of id_encoding, which package z32 checks; and
// address_encoding, which package hyperdht checks.
type noiseVectors struct {
	KeyPairs []struct {
		Seed      hx
		PublicKey hx     `json:"public_key"`
		SecretKey hx     `json:"secret_key"`
		Scalar    hx     `json:"dh_scalar"`
		Z32       string `json:"z32"`
	} `json:"key_pairs"`
	DH []struct {
		SecretSeed hx `json:"secret_seed"`
		PublicKey  hx `json:"public_key"`
		Shared     hx
	}
	DHScalar []struct {
		Scalar    hx
		PublicKey hx `json:"public_key"`
		Shared    hx
	} `json:"dh_scalar"`
	DHRejected []struct {
		Why       string
		PublicKey hx `json:"public_key"`
	} `json:"dh_rejected"`
	HMAC []struct{ Key, Data, Out hx }
	HKDF []struct {
		ChainingKey hx `json:"chaining_key"`
		Input       hx
		Outputs     [2]hx
	}
	Handshakes []handshakeVector
	Wrap       struct {
		Prologue             hx
		Initiator, Responder sideVector
		Payload1, Message1   hx
		Payload2, Message2   hx
		HandshakeHash        hx `json:"handshake_hash"`
		InitiatorTx          hx `json:"initiator_tx"`
		InitiatorRx          hx `json:"initiator_rx"`
		HolepunchSecret      hx `json:"holepunch_secret"`
		IDInitiator          hx `json:"stream_id_initiator"`
		IDResponder          hx `json:"stream_id_responder"`
		InitiatorRemoteID    hx `json:"initiator_remote_id"`
		ResponderRemoteID    hx `json:"responder_remote_id"`
	} `json:"dht_wrap"`
	FirstMessages []struct {
		Why, Pattern string
		Prologue     hx
		Seed         hx `json:"responder_static_seed"`
		Message      hx
		Accepted     bool
		Payload      hx
	} `json:"first_messages"`
	IDs struct {
		Valid []struct {
			In  string
			Out hx
		}
		Invalid  []struct{ In string }
		Trailing struct {
			Canonical, Accepted string
			Out                 hx
		} `json:"trailing_bits_ignored"`
	} `json:"id_encoding"`
}

func load(t testing.TB) noiseVectors {
	var v noiseVectors
	vectors.Load(t, "noise.json", &v)
	for what, n := range map[string]int{
		"key_pairs": len(v.KeyPairs), "dh": len(v.DH), "dh_scalar": len(v.DHScalar), "dh_rejected": len(v.DHRejected),
		"hmac": len(v.HMAC), "hkdf": len(v.HKDF), "handshakes": len(v.Handshakes), "first_messages": len(v.FirstMessages),
		"valid ids": len(v.IDs.Valid), "invalid ids": len(v.IDs.Invalid),
	} {
		if n == 0 {
			t.Fatalf("no vectors: %s", what)
		}
	}
	return v
}

func pair(seed hx) KeyPair { return KeyPairFromSeed([32]byte(seed)) }

func TestPrimitiveVectors(t *testing.T) {
	v := load(t)
	for _, e := range v.HMAC {
		if got := hmac(e.Key, e.Data); !bytes.Equal(got[:], e.Out) {
			t.Errorf("HMAC(%x, %x) = %x, want %x", e.Key, e.Data, got, e.Out)
		}
	}
	for _, e := range v.HKDF {
		o1, o2 := hkdf((*[64]byte)(e.ChainingKey), e.Input)
		if !bytes.Equal(o1[:], e.Outputs[0]) || !bytes.Equal(o2[:], e.Outputs[1]) {
			t.Errorf("HKDF(%x, %x) = %x, %x, want %x", e.ChainingKey, e.Input, o1, o2, e.Outputs)
		}
		// Noise section 4.3 is RFC 5869 without info.
		_, _, o3 := hkdf3((*[64]byte)(e.ChainingKey), e.Input)
		want, err := rfc5869.Key(newBLAKE2b, e.Input, e.ChainingKey, "", 3*hashSize)
		if err != nil || !bytes.Equal(o3[:], want[2*hashSize:]) {
			t.Errorf("third output of HKDF(%x, %x) = %x, want %x, %v", e.ChainingKey, e.Input, o3, want[2*hashSize:], err)
		}
	}
}

func newBLAKE2b() hash.Hash {
	h, err := blake2b.New512(nil)
	if err != nil {
		panic(err)
	}
	return h
}

func patternOf(t testing.TB, name string) Pattern {
	switch name {
	case "XX":
		return XX
	case "IK":
		return IK
	}
	t.Fatalf("unknown pattern %q", name)
	return 0
}

// initialize returns both ends of a handshake with fixed keys.
func initialize(t testing.TB, p Pattern, prologue []byte, i, r sideVector) (initiator, responder HandshakeState) {
	t.Helper()
	ie, re := pair(i.EphemeralSeed), pair(r.EphemeralSeed)
	is, rs := pair(i.StaticSeed), pair(r.StaticSeed)
	initiator, err := Initialize(Config{Pattern: p, Initiator: true, Prologue: prologue, Static: is, RemoteStatic: rs.Public, Ephemeral: &ie})
	if err != nil {
		t.Fatal(err)
	}
	responder, err = Initialize(Config{Pattern: p, Prologue: prologue, Static: rs, Ephemeral: &re})
	if err != nil {
		t.Fatal(err)
	}
	return initiator, responder
}

func checkState(t *testing.T, when string, hs *HandshakeState, want stateVector) {
	t.Helper()
	if !bytes.Equal(hs.h[:], want.H) || !bytes.Equal(hs.ck[:], want.CK) || hs.hasKey != (want.K != nil) ||
		hs.hasKey && !bytes.Equal(hs.k[:], want.K) || hs.n != want.N {
		t.Fatalf("%s: h %x\nck %x\nk %x %v\nn %d, want %x", when, hs.h, hs.ck, hs.k, hs.hasKey, hs.n, want)
	}
}

func TestHandshakeVectors(t *testing.T) {
	for _, v := range load(t).Handshakes {
		t.Run(v.Name, func(t *testing.T) {
			p := patternOf(t, v.Pattern)
			if patterns[p].protocol != v.Protocol {
				t.Fatalf("protocol %s, want %s", patterns[p].protocol, v.Protocol)
			}
			i, r := initialize(t, p, v.Prologue, v.Initiator, v.Responder)
			checkState(t, "initiator initialised", &i, v.AfterInitialise)
			checkState(t, "responder initialised", &r, v.AfterInitialise)
			for n, m := range v.Messages {
				from, to := &i, &r
				if m.From == "responder" {
					from, to = &r, &i
				}
				msg, err := from.WriteMessage([]byte("x"), m.Payload)
				if err != nil || !bytes.Equal(msg[1:], m.Message) {
					t.Fatalf("message %d = %x, %v, want %x", n, msg[1:], err, m.Message)
				}
				payload, err := to.ReadMessage([]byte("y"), m.Message)
				if err != nil || string(payload) != "y"+string(m.Payload) {
					t.Fatalf("payload %d = %x, %v, want %x", n, payload, err, m.Payload)
				}
				if m.After != nil {
					checkState(t, "after sending", from, *m.After)
					checkState(t, "after receiving", to, *m.After)
				}
			}
			checkResults(t, &i, &r, v.InitiatorTx, v.InitiatorRx, v.HandshakeHash)
			if s, ok := r.RemoteStatic(); !ok || !bytes.Equal(s[:], v.ResponderSeesStatic) {
				t.Errorf("responder sees static %x, want %x", s, v.ResponderSeesStatic)
			}
			if e := pair(v.Initiator.EphemeralSeed).Public; !bytes.Equal(e[:], v.Initiator.EphemeralPublic) {
				t.Errorf("ephemeral %x, want %x", e, v.Initiator.EphemeralPublic)
			}
		})
	}
}

func checkResults(t *testing.T, i, r *HandshakeState, tx, rx, hash hx) {
	t.Helper()
	ir, err := i.Split()
	if err != nil {
		t.Fatal(err)
	}
	rr, err := r.Split()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ir.Tx[:], tx) || !bytes.Equal(ir.Rx[:], rx) || !bytes.Equal(ir.Hash[:], hash) {
		t.Errorf("initiator has %x %x %x, want %x %x %x", ir.Tx, ir.Rx, ir.Hash, tx, rx, hash)
	}
	if ir.Secret != rr.Secret || ir.Secret == [32]byte{} || ir.Secret == ir.Tx || ir.Secret == ir.Rx || ir.Secret == [32]byte(ir.Hash[:32]) {
		t.Errorf("secrets beside the stream: %x and %x", ir.Secret, rr.Secret)
	}
	if rr.Tx != ir.Rx || rr.Rx != ir.Tx || rr.Hash != ir.Hash || !ir.Initiator || rr.Initiator {
		t.Errorf("responder has %+v", rr)
	}
	if ir.PublicKey != rr.RemotePublicKey || rr.PublicKey != ir.RemotePublicKey || ir.PublicKey != i.s.PublicKey() {
		t.Errorf("public keys %v %v and %v %v", ir.PublicKey, ir.RemotePublicKey, rr.PublicKey, rr.RemotePublicKey)
	}
}

func TestDHTHandshakeVector(t *testing.T) {
	v := load(t).Wrap
	i, r := initialize(t, IK, v.Prologue, v.Initiator, v.Responder)
	m1, err := i.WriteMessage(nil, v.Payload1)
	if err != nil || !bytes.Equal(m1, v.Message1) {
		t.Fatalf("message 1 = %x, %v, want %x", m1, err, v.Message1)
	}
	if p, err := r.ReadMessage(nil, m1); err != nil || !bytes.Equal(p, v.Payload1) {
		t.Fatalf("payload 1 = %x, %v", p, err)
	}
	m2, err := r.WriteMessage(nil, v.Payload2)
	if err != nil || !bytes.Equal(m2, v.Message2) {
		t.Fatalf("message 2 = %x, %v, want %x", m2, err, v.Message2)
	}
	// A relay that answers garbage does not spoil the honest answer.
	for n := range m2 {
		bad := bytes.Clone(m2)
		bad[n] ^= 0x40
		if p, err := i.ReadMessage(nil, bad); err == nil {
			t.Fatalf("message 2 with byte %d changed gave %x", n, p)
		}
	}
	if p, err := i.ReadMessage(nil, m2); err != nil || !bytes.Equal(p, v.Payload2) {
		t.Fatalf("payload 2 = %x, %v", p, err)
	}
	checkResults(t, &i, &r, v.InitiatorTx, v.InitiatorRx, v.HandshakeHash)

	res, err := i.Split()
	if err != nil {
		t.Fatal(err)
	}
	derived := func(name string, id byte) []byte {
		ns := sodium.Namespace(name, id)
		sum := sodium.KeyedSum256(res.Hash[:], ns[:])
		return sum[:]
	}
	for what, c := range map[string][2][]byte{
		"holepunch secret":    {derived("hyperswarm/dht", 1), v.HolepunchSecret},
		"id of the initiator": {derived("hyperswarm/secret-stream", 0), v.IDInitiator},
		"id of the responder": {derived("hyperswarm/secret-stream", 1), v.IDResponder},
		"responder's remote":  {derived("hyperswarm/secret-stream", 0), v.ResponderRemoteID},
		"initiator's remote":  {derived("hyperswarm/secret-stream", 1), v.InitiatorRemoteID},
	} {
		if !bytes.Equal(c[0], c[1]) {
			t.Errorf("%s = %x, want %x", what, c[0], c[1])
		}
	}
}

func TestFirstMessageVectors(t *testing.T) {
	for _, v := range load(t).FirstMessages {
		hs, err := Initialize(Config{Pattern: patternOf(t, v.Pattern), Prologue: v.Prologue, Static: pair(v.Seed)})
		if err != nil {
			t.Fatal(err)
		}
		before := hs
		p, err := hs.ReadMessage(nil, v.Message)
		if (err == nil) != v.Accepted || !bytes.Equal(p, v.Payload) {
			t.Errorf("%s: payload %x, %v", v.Why, p, err)
		}
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Errorf("%s: %v", v.Why, err)
			}
			if hs.symmetricState != before.symmetricState || hs.next != 0 {
				t.Errorf("%s: a refused message changed the state", v.Why)
			}
		}
	}
}

// run completes a handshake with random ephemeral keys.
func run(t testing.TB, i, r *HandshakeState) {
	t.Helper()
	from, to := i, r
	for n := 0; !from.Finished(); n++ {
		payload := fmt.Sprintf("payload %d", n)
		m, err := from.WriteMessage(nil, []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		if p, err := to.ReadMessage(nil, m); err != nil || string(p) != payload {
			t.Fatalf("message %d: %q, %v", n, p, err)
		}
		from, to = to, from
	}
}

// opaque hides what kind of key it is, as one that lives elsewhere would.
type opaque struct{ StaticKey }

func TestKindsOfStaticKeys(t *testing.T) {
	// The scalar of a seed, unclamped use of which gives the same key.
	v := load(t).KeyPairs[1]
	scalar := ScalarKey{Public: PublicKey(v.PublicKey), Scalar: [32]byte(v.Scalar)}
	seeded := pair(v.Seed)
	for _, p := range []Pattern{XX, IK} {
		for _, is := range []StaticKey{seeded, scalar, opaque{seeded}, opaque{scalar}} {
			for _, rs := range []StaticKey{GenerateKeyPair(), opaque{GenerateKeyPair()}} {
				i, err := Initialize(Config{Pattern: p, Initiator: true, Static: is, RemoteStatic: rs.PublicKey()})
				if err != nil {
					t.Fatal(err)
				}
				r, err := Initialize(Config{Pattern: p, Static: rs})
				if err != nil {
					t.Fatal(err)
				}
				run(t, &i, &r)
				ir, err := i.Split()
				if err != nil {
					t.Fatal(err)
				}
				checkResults(t, &i, &r, ir.Tx[:], ir.Rx[:], ir.Hash[:])
			}
		}
	}
}

type failing struct{ KeyPair }

func (failing) DH(PublicKey) ([32]byte, error) { return [32]byte{}, errors.New("token unplugged") }

func TestStaticKeyFails(t *testing.T) {
	rs := GenerateKeyPair()
	i, err := Initialize(Config{Pattern: IK, Initiator: true, Static: failing{GenerateKeyPair()}, RemoteStatic: rs.Public})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := i.WriteMessage(nil, nil); err == nil {
		t.Fatalf("message %x without a secret", m)
	}
	if i.next != 0 {
		t.Fatal("the failed message counts")
	}
}

func TestOrder(t *testing.T) {
	rs := GenerateKeyPair()
	i, err := Initialize(Config{Pattern: IK, Initiator: true, Static: GenerateKeyPair(), RemoteStatic: rs.Public})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Initialize(Config{Pattern: IK, Static: rs})
	if err != nil {
		t.Fatal(err)
	}
	want := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrOrder) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = r.WriteMessage(nil, nil)
	want("responder writes first", err)
	_, err = i.ReadMessage(nil, make([]byte, 100))
	want("initiator reads first", err)
	_, err = i.Split()
	want("split at once", err)
	if _, known := r.RemoteStatic(); known {
		t.Error("responder knows a key")
	}
	run(t, &i, &r)
	_, err = i.WriteMessage(nil, nil)
	want("initiator goes on", err)
	_, err = r.ReadMessage(nil, nil)
	want("responder goes on", err)
}

func TestPayloadLimit(t *testing.T) {
	for _, size := range []int{MaxCiphertext - tagSize, MaxCiphertext - tagSize + 1} {
		rs := GenerateKeyPair()
		i, err := Initialize(Config{Pattern: IK, Initiator: true, Static: GenerateKeyPair(), RemoteStatic: rs.Public})
		if err != nil {
			t.Fatal(err)
		}
		r, err := Initialize(Config{Pattern: IK, Static: rs})
		if err != nil {
			t.Fatal(err)
		}
		m, err := i.WriteMessage(nil, make([]byte, size))
		if size > MaxCiphertext-tagSize {
			if !errors.Is(err, ErrTooLarge) {
				t.Errorf("payload of %d bytes: %v", size, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if p, err := r.ReadMessage(nil, m); err != nil || len(p) != size {
			t.Errorf("payload of %d bytes: %d, %v", size, len(p), err)
		}
		if _, err := r.ReadMessage(nil, append(m, 0)); err == nil {
			t.Error("a longer message was read")
		}
	}
}

func TestInitializeRefusesBadRemote(t *testing.T) {
	if _, err := Initialize(Config{Pattern: IK, Initiator: true, Static: GenerateKeyPair()}); !errors.Is(err, ErrInvalidKey) {
		t.Errorf("no remote key: %v", err)
	}
}

// Whatever a peer sends in answer, there is no panic, nothing is accepted that
// the true peer did not write, and the state survives for the true answer.
func FuzzHandshake(f *testing.F) {
	for _, v := range load(f).FirstMessages {
		f.Add(uint8(0), []byte(v.Message))
	}
	for _, v := range load(f).Handshakes {
		for n, m := range v.Messages {
			f.Add(uint8(patternOf(f, v.Pattern))<<2|uint8(n), []byte(m.Message))
		}
	}
	seed := func(b byte) hx { return bytes.Repeat([]byte{b}, 32) }
	f.Fuzz(func(t *testing.T, which uint8, message []byte) {
		p, at := Pattern(which>>2&1), int(which&3)
		i, r := initialize(t, p, nil, sideVector{StaticSeed: seed(1), EphemeralSeed: seed(2)}, sideVector{StaticSeed: seed(3), EphemeralSeed: seed(4)})
		from, to := &i, &r
		for n := 0; !from.Finished(); n++ {
			m, err := from.WriteMessage(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if n == at && !bytes.Equal(m, message) {
				trial := *to
				_, err := trial.ReadMessage(nil, message)
				// The first messages are anybody's to write.
				if err == nil && n > 0 {
					t.Fatalf("accepted %x instead of %x", message, m)
				}
				if err != nil && (trial.symmetricState != to.symmetricState || trial.next != to.next) {
					t.Fatal("a refused message changed the state")
				}
			}
			if _, err := to.ReadMessage(nil, m); err != nil {
				t.Fatal(err)
			}
			from, to = to, from
		}
	})
}

func BenchmarkHandshakeIK(b *testing.B) {
	is, rs := GenerateKeyPair(), GenerateKeyPair()
	b.ReportAllocs()
	for b.Loop() {
		i, err := Initialize(Config{Pattern: IK, Initiator: true, Static: is, RemoteStatic: rs.Public})
		if err != nil {
			b.Fatal(err)
		}
		r, err := Initialize(Config{Pattern: IK, Static: rs})
		if err != nil {
			b.Fatal(err)
		}
		run(b, &i, &r)
	}
}

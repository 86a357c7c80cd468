package hyperdht

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warren-dht/warren/internal/sodium"
	"github.com/warren-dht/warren/internal/vectors"
)

type vectorAddr struct {
	Host netip.Addr
	Port uint16
}

func vectorAddrs(as []vectorAddr) packedAddrs {
	var out []netip.AddrPort
	for _, a := range as {
		out = append(out, netip.AddrPortFrom(a.Host, a.Port))
	}
	return packAddrs(out)
}

type vectorPeer struct {
	PublicKey      vectors.Hex
	RelayAddresses []vectorAddr
}

func (p *vectorPeer) record() *peerRecord {
	if p == nil {
		return nil
	}
	return &peerRecord{key: [32]byte(p.PublicKey), relays: vectorAddrs(p.RelayAddresses)}
}

type recordVectors struct {
	Commands        map[string]uint64
	Namespaces      map[string]vectors.Hex
	ErrorCodes      map[string]uint64 `json:"error_codes"`
	Encodings       []encodingVector
	MutableGet      []seqVector `json:"mutable_get_request"`
	Decode          []decodeVector
	SignedAnnounces []announceVector `json:"signed_announces"`
	SignedMutables  []mutableVector  `json:"signed_mutables"`
	Immutables      []immutableVector
	RefreshChain    refreshVector `json:"refresh_chain"`
	Exchanges       exchangeVectors
}

type (
	encodingVector struct {
		Message string
		Fields  json.RawMessage
		Encoded vectors.Hex
		Decoded *struct {
			Peers []vectorPeer
			Bump  uint64
		}
	}
	seqVector struct {
		Seq     uint64
		Encoded vectors.Hex
	}
	decodeVector struct {
		Message  string
		Encoded  vectors.Hex
		Accepted bool
	}
	announceVector struct {
		What, Note     string
		Target, Token  vectors.Hex
		NodeID         vectors.Hex  `json:"node_id"`
		PublicKey      vectors.Hex  `json:"public_key"`
		RelayAddresses []vectorAddr `json:"relay_addresses"`
		Seed, Refresh  vectors.Hex
		Signable       vectors.Hex
		Signature      vectors.Hex
		Value          vectors.Hex
		Bump           uint64
	}
	mutableVector struct {
		Seed, Target, Value, Signable, Signature vectors.Hex
		PublicKey                                vectors.Hex `json:"public_key"`
		Seq                                      uint64
		PutValue                                 vectors.Hex `json:"put_value"`
		GetValue                                 vectors.Hex `json:"get_value"`
	}
	immutableVector struct{ Value, Target vectors.Hex }
	refreshVector   struct {
		Secret vectors.Hex
		Blocks []vectors.Hex
	}
	exchangeVectors struct {
		Node struct {
			Host netip.Addr
			Port uint16
			ID   vectors.Hex
		}
		List []exchangeVector
	}
	exchangeVector struct {
		Name                 string
		Command              uint64
		Target, Token, Value vectors.Hex
		Request, Reply       vectors.Hex
		ReplyFields          *replyFields `json:"reply_fields"`
	}
	replyFields struct {
		Error            uint64
		Value, Token, ID vectors.Hex
		CloserNodes      []string `json:"closer_nodes"`
	}
)

func loadRecordVectors(t testing.TB) *recordVectors {
	t.Helper()
	v := new(recordVectors)
	vectors.Load(t, "hyperdht-records.json", v)
	return v
}

func TestVectorConstants(t *testing.T) {
	v := loadRecordVectors(t)
	want := map[string]uint64{
		"PEER_HANDSHAKE": cmdPeerHandshake, "PEER_HOLEPUNCH": cmdPeerHolepunch, "FIND_PEER": cmdFindPeer,
		"LOOKUP": cmdLookup, "ANNOUNCE": cmdAnnounce, "UNANNOUNCE": cmdUnannounce, "MUTABLE_PUT": cmdMutablePut,
		"MUTABLE_GET": cmdMutableGet, "IMMUTABLE_PUT": cmdImmutablePut, "IMMUTABLE_GET": cmdImmutableGet, "PLUGIN": cmdPlugin,
	}
	if diff := cmp.Diff(v.Commands, want); diff != "" {
		t.Error(diff)
	}
	for name, ns := range v.Namespaces {
		if got := namespace(byte(v.Commands[name])); !bytes.Equal(got[:], ns) {
			t.Errorf("%s: %x", name, got)
		}
	}
	if v.ErrorCodes["SEQ_REUSED"] != uint64(SeqReused) || v.ErrorCodes["SEQ_TOO_LOW"] != uint64(SeqTooLow) {
		t.Error("error codes")
	}
}

// encoder is what all messages have in common.
type encoder interface{ append([]byte) []byte }

// rawBytes is a message that is itself.
type rawBytes []byte

func (r rawBytes) append(b []byte) []byte { return append(b, r...) }

// decodeAs reads a message of the reference's name.
func decodeAs(name string, b []byte) (encoder, error) {
	switch name {
	case "peer":
		return parsePeerRecord(b)
	case "announce":
		return parseAnnouncement(b)
	case "lookupRawReply":
		return parseLookupReply(b)
	case "mutablePutRequest":
		return parseMutablePut(b)
	case "mutableGetResponse":
		return parseMutableRecord(b)
	case "pluginRequest":
		return parsePluginRequest(b)
	}
	panic(name)
}

// fields builds a message from the fields of a vector.
func (e encodingVector) fields(t *testing.T) encoder {
	var f struct {
		vectorPeer
		Records   []vectors.Hex
		Bump      uint64
		Peer      *vectorPeer
		Refresh   vectors.Hex
		Signature vectors.Hex
		Seq       uint64
		Value     vectors.Hex
		Plugin    string
		Version   uint64
		Command   uint64
	}
	if e.Fields == nil {
		return nil
	}
	if err := json.Unmarshal(e.Fields, &f); err != nil {
		t.Fatal(err)
	}
	var sig *[64]byte
	if f.Signature != nil {
		sig = (*[64]byte)(f.Signature)
	}
	switch e.Message {
	case "peer":
		return f.vectorPeer.record()
	case "lookupRawReply":
		var l lookupReply
		for _, r := range f.Records {
			p, err := parsePeerRecord(r)
			if err != nil {
				t.Fatal(err)
			}
			l.records = append(l.records, p)
		}
		l.bump = f.Bump
		return l
	case "announce":
		a := announcement{peer: f.Peer.record(), signature: sig, bump: f.Bump}
		if f.Refresh != nil {
			a.refresh = (*[32]byte)(f.Refresh)
		}
		return a
	case "mutableSignable":
		b := mutableRecord{seq: f.Seq, value: f.Value}.append(nil)
		return rawBytes(b[:len(b)-64])
	case "mutablePutRequest":
		return mutablePut{[32]byte(f.PublicKey), mutableRecord{f.Seq, f.Value, *sig}}
	case "mutableGetResponse":
		return mutableRecord{f.Seq, f.Value, *sig}
	case "pluginRequest":
		return pluginRequest{f.Plugin, f.Version, f.Command, f.Value}
	}
	t.Fatal(e.Message)
	return nil
}

func TestVectorEncodings(t *testing.T) {
	for i, e := range loadRecordVectors(t).Encodings {
		name := fmt.Sprint(i, " ", e.Message)
		if m := e.fields(t); m != nil {
			if got := m.append(nil); !bytes.Equal(got, e.Encoded) {
				t.Errorf("%s: encoded\n%x, want\n%x", name, got, e.Encoded)
			}
		}
		if e.Message == "mutableSignable" {
			continue
		}
		m, err := decodeAs(e.Message, e.Encoded)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e.Fields != nil {
			if got := m.append(nil); !bytes.Equal(got, e.Encoded) {
				t.Errorf("%s: decoded and encoded\n%x, want\n%x", name, got, e.Encoded)
			}
		}
		if e.Decoded != nil {
			l := m.(lookupReply)
			want := lookupReply{bump: e.Decoded.Bump}
			for _, p := range e.Decoded.Peers {
				want.records = append(want.records, *p.record())
			}
			if !bytes.Equal(l.append(nil), want.append(nil)) {
				t.Errorf("%s: decoded %v", name, l)
			}
		}
	}
}

func TestVectorMutableGet(t *testing.T) {
	for _, v := range loadRecordVectors(t).MutableGet {
		if got := appendMutableGet(nil, v.Seq); !bytes.Equal(got, v.Encoded) {
			t.Errorf("%d: %x", v.Seq, got)
		}
		if seq, err := parseMutableGet(v.Encoded); err != nil || seq != v.Seq {
			t.Errorf("%x: %d %v", v.Encoded, seq, err)
		}
	}
}

func TestVectorDecode(t *testing.T) {
	for i, v := range loadRecordVectors(t).Decode {
		if _, err := decodeAs(v.Message, v.Encoded); (err == nil) != v.Accepted {
			t.Errorf("%d: %s %x: %v, want accepted %v", i, v.Message, v.Encoded, err, v.Accepted)
		}
	}
}

func TestVectorSignedAnnounces(t *testing.T) {
	for i, v := range loadRecordVectors(t).SignedAnnounces {
		ns := &nsAnnounce
		if v.What == "unannounce" {
			ns = &nsUnannounce
		}
		a := announcement{peer: &peerRecord{[32]byte(v.PublicKey), vectorAddrs(v.RelayAddresses)}, bump: v.Bump}
		if v.Refresh != nil {
			a.refresh = (*[32]byte)(v.Refresh)
		}
		message := a.signable(ns, (*[32]byte)(v.Target), (*[32]byte)(v.NodeID), (*[32]byte)(v.Token))
		if !bytes.Equal(message[:], v.Signable) {
			t.Errorf("%d: signable %x", i, message)
		}
		sig, err := sign(ed25519.NewKeyFromSeed(v.Seed), message[:])
		if err != nil || !bytes.Equal(sig[:], v.Signature) {
			t.Errorf("%d: signature %x %v", i, sig, err)
		}
		if !sodium.VerifyDetached((*[32]byte)(v.PublicKey), message[:], &sig) {
			t.Errorf("%d: does not verify", i)
		}
		a.signature = &sig
		if got := a.append(nil); !bytes.Equal(got, v.Value) {
			t.Errorf("%d: value %x", i, got)
		}
	}
}

func TestVectorSignedMutables(t *testing.T) {
	for i, v := range loadRecordVectors(t).SignedMutables {
		r, err := SignMutable(ed25519.NewKeyFromSeed(v.Seed), v.Seq, v.Value)
		if err != nil {
			t.Fatal(err)
		}
		message := r.wire().signable()
		target := r.Target()
		put := mutablePut{r.PublicKey, r.wire()}.append(nil)
		for what, c := range map[string][2][]byte{
			"public key": {r.PublicKey[:], v.PublicKey},
			"target":     {target[:], v.Target},
			"signable":   {message[:], v.Signable},
			"signature":  {r.Signature[:], v.Signature},
			"put":        {put, v.PutValue},
			"get":        {r.wire().append(nil), v.GetValue},
		} {
			if !bytes.Equal(c[0], c[1]) {
				t.Errorf("%d: %s %x", i, what, c[0])
			}
		}
		if r.wire().size() != len(v.GetValue) {
			t.Errorf("%d: size %d, is %d", i, r.wire().size(), len(v.GetValue))
		}
		if err := r.Verify(); err != nil {
			t.Errorf("%d: %v", i, err)
		}
		r.Seq ^= 1
		if err := r.Verify(); !errors.Is(err, ErrBadSignature) {
			t.Errorf("%d: another seq: %v", i, err)
		}
	}
}

func TestVectorImmutables(t *testing.T) {
	for _, v := range loadRecordVectors(t).Immutables {
		if got := Hash(v.Value); !bytes.Equal(got[:], v.Target) {
			t.Errorf("%q: %x", v.Value, got)
		}
	}
}

func TestVectorRefreshChain(t *testing.T) {
	v := loadRecordVectors(t).RefreshChain
	want := []byte(v.Secret)
	for i := len(v.Blocks) - 1; i >= 0; i-- {
		h := hash(want)
		if want = h[:]; !bytes.Equal(want, v.Blocks[i]) {
			t.Errorf("block %d is %x", i, want)
		}
	}
}

// A hedgedSigner mixes randomness into its signatures, as some do.
type hedgedSigner struct{ ed25519.PrivateKey }

func (s hedgedSigner) Sign(random io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, err := io.ReadFull(random, make([]byte, 32)); err != nil {
		return nil, err
	}
	return s.PrivateKey.Sign(nil, message, opts)
}

func TestSignerIsGivenRandomness(t *testing.T) {
	r, err := SignMutable(hedgedSigner{ed25519.NewKeyFromSeed(make([]byte, 32))}, 1, nil)
	if err != nil || r.Verify() != nil {
		t.Error(err, r.Verify())
	}
}

func TestSignMutableRefuses(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	if _, err := SignMutable(key, MaxSeq+1, nil); !errors.Is(err, ErrSeqRange) {
		t.Error(err)
	}
	if err := (MutableRecord{Seq: MaxSeq + 1}).Verify(); !errors.Is(err, ErrSeqRange) {
		t.Error(err)
	}
	small := ed25519.PrivateKey(make([]byte, 64))
	small[32] = 1
	if _, err := SignMutable(small, 0, nil); !errors.Is(err, ErrNotEd25519) {
		t.Error(err)
	}
}

func fuzzMessage(f *testing.F, name string) {
	v := loadRecordVectors(f)
	for _, e := range v.Encodings {
		if e.Message == name {
			f.Add([]byte(e.Encoded))
		}
	}
	for _, e := range v.Decode {
		if e.Message == name {
			f.Add([]byte(e.Encoded))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeAs(name, b)
		if err != nil {
			return
		}
		first := m.append(nil)
		if len(first) > len(b)+9 {
			t.Fatalf("%d bytes became %d", len(b), len(first))
		}
		m, err = decodeAs(name, first)
		if err != nil {
			t.Fatalf("%x: %v", first, err)
		}
		if second := m.append(nil); !bytes.Equal(first, second) {
			t.Fatalf("%x became %x", first, second)
		}
	})
}

func FuzzPeerRecord(f *testing.F)    { fuzzMessage(f, "peer") }
func FuzzAnnouncement(f *testing.F)  { fuzzMessage(f, "announce") }
func FuzzLookupReply(f *testing.F)   { fuzzMessage(f, "lookupRawReply") }
func FuzzMutablePut(f *testing.F)    { fuzzMessage(f, "mutablePutRequest") }
func FuzzMutableRecord(f *testing.F) { fuzzMessage(f, "mutableGetResponse") }
func FuzzPluginRequest(f *testing.F) { fuzzMessage(f, "pluginRequest") }

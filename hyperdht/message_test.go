package hyperdht

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/warren-dht/warren/internal/vectors"
	"github.com/warren-dht/warren/nat"
)

// connectVector is one entry of testdata/hyperdht-connect.json.
type connectVector struct {
	ID         string
	Kind       string
	DecodeOnly bool
	Error      string
	Note       string
	Hex        vectors.Hex
	Fields     json.RawMessage

	// securePayload and token
	Secret, Nonce, Plaintext, LocalSecret vectors.Hex
	Host                                  string
}

func connectVectors(t testing.TB, kinds ...string) (out []connectVector) {
	t.Helper()
	var v struct{ Vectors []connectVector }
	vectors.Load(t, "hyperdht-connect.json", &v)
	for _, x := range v.Vectors {
		for _, k := range kinds {
			if x.Kind == k {
				out = append(out, x)
			}
		}
	}
	if len(out) == 0 {
		t.Fatalf("no vectors of kinds %v", kinds)
	}
	return out
}

// codecs maps the kinds of vectors to what reads them into the vectors' own
// names, and what writes them.
var codecs = map[string]struct {
	decode func([]byte) (any, error) // a map as in the vectors' fields
	encode func([]byte) ([]byte, error)
}{
	"handshake": {
		func(b []byte) (any, error) {
			m, err := parseHandshakeMessage(b)
			return map[string]any{"mode": m.mode, "noise": hexOf(m.noise), "peerAddress": addrOf(m.peer), "relayAddress": addrOf(m.relay)}, err
		},
		func(b []byte) ([]byte, error) {
			m, err := parseHandshakeMessage(b)
			return m.append(nil), err
		},
	},
	"holepunch": {
		func(b []byte) (any, error) {
			m, err := parseHolepunchMessage(b)
			return map[string]any{"mode": m.mode, "id": m.id, "payload": hexOf(m.payload), "peerAddress": addrOf(m.peer)}, err
		},
		func(b []byte) ([]byte, error) {
			m, err := parseHolepunchMessage(b)
			return m.append(nil), err
		},
	},
	"noisePayload": {
		func(b []byte) (any, error) { p, err := parseNoisePayload(b); return payloadFields(&p), err },
		func(b []byte) ([]byte, error) { p, err := parseNoisePayload(b); return p.append(nil), err },
	},
	"holepunchPayload": {
		func(b []byte) (any, error) { p, err := parsePunchPayload(b); return punchFields(&p), err },
		func(b []byte) ([]byte, error) { p, err := parsePunchPayload(b); return p.append(nil), err },
	},
	"connectAddress": {
		func(b []byte) (any, error) {
			a, err := ParseConnectAddress(b)
			m := map[string]any{"key": hexOf(a.Key[:]), "nodes": nil}
			if a.Nodes != nil {
				m["nodes"] = addrsOf(a.Nodes)
			}
			return m, err
		},
		func(b []byte) ([]byte, error) { a, err := ParseConnectAddress(b); return a.Append(nil), err },
	},
}

func hexOf(b []byte) any { return hex.EncodeToString(b) }

func key32(b *[32]byte) any {
	if b == nil {
		return nil
	}
	return hexOf(b[:])
}

func addrOf(a netip.AddrPort) any {
	if !a.IsValid() {
		return nil
	}
	return a.String()
}

func addrsOf(as []netip.AddrPort) any {
	out := []any{}
	for _, a := range as {
		out = append(out, a.String())
	}
	return out
}

func payloadFields(p *noisePayload) any {
	m := map[string]any{
		"version": p.version, "error": p.err, "firewall": p.firewall, "holepunch": nil,
		"addresses4": addrsOf(p.addresses4), "addresses6": addrsOf(p.addresses6), "udx": nil,
		"secretStream": nil, "relayThrough": nil, "relayAddresses": nil,
	}
	if h := p.holepunch; h != nil {
		relays := []any{}
		for _, r := range h.relays {
			relays = append(relays, map[string]any{"relayAddress": addrOf(r.relay), "peerAddress": addrOf(r.peer)})
		}
		m["holepunch"] = map[string]any{"id": h.id, "relays": relays}
	}
	if u := p.udx; u != nil {
		m["udx"] = map[string]any{"reusableSocket": u.reusable, "id": u.id, "seq": u.seq}
	}
	if p.secretStream != 0 {
		m["secretStream"] = map[string]any{"version": p.secretStream}
	}
	if r := p.relayThrough; r != nil {
		m["relayThrough"] = map[string]any{"version": 1, "publicKey": hexOf(r.publicKey[:]), "token": hexOf(r.token[:])}
	}
	if p.relayAddresses != nil {
		m["relayAddresses"] = addrsOf(p.relayAddresses)
	}
	return m
}

func punchFields(p *punchPayload) any {
	m := map[string]any{
		"error": p.err, "firewall": p.firewall, "round": p.round, "connected": p.connected, "punching": p.punching,
		"addresses": nil, "remoteAddress": addrOf(p.remote), "token": key32(p.token), "remoteToken": key32(p.remoteToken),
	}
	if p.addresses != nil {
		m["addresses"] = addrsOf(p.addresses)
	}
	return m
}

// plain passes a value through JSON, so that numbers compare as the vectors'.
func plain(t *testing.T, v any) (out any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// diffable writes the vectors' fields as ours: IPv6 addresses in their short
// form, and without the version of the udx part, which nobody checks and we do
// not keep (what we write is compared as bytes).
func diffable(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			v[k] = diffable(x)
		}
		if _, isUDX := v["reusableSocket"]; isUDX {
			delete(v, "version")
		}
	case []any:
		for i, x := range v {
			v[i] = diffable(x)
		}
	case string:
		if a, err := netip.ParseAddrPort(v); err == nil {
			return a.String()
		}
	}
	return v
}

func TestMessageVectors(t *testing.T) {
	for kind, c := range codecs {
		for _, v := range connectVectors(t, kind) {
			got, err := c.decode(v.Hex)
			if v.Error != "" {
				if err == nil {
					t.Errorf("%s (%s): decoded", v.ID, v.Note)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s (%s): %v", v.ID, v.Note, err)
				continue
			}
			if d := cmp.Diff(diffable(plain(t, v.Fields)), plain(t, got)); d != "" {
				t.Errorf("%s (%s): (-want +got)\n%s", v.ID, v.Note, d)
			}
			if v.DecodeOnly {
				continue
			}
			if b, _ := c.encode(v.Hex); !bytes.Equal(b, v.Hex) {
				t.Errorf("%s (%s): encoded as %x, want %x", v.ID, v.Note, b, v.Hex)
			}
		}
	}
}

func TestSealVectors(t *testing.T) {
	for _, v := range connectVectors(t, "securePayload") {
		s := &punchSeal{key: [32]byte(v.Secret)}
		p, ok := s.open(v.Hex)
		if v.Error != "" {
			if ok {
				t.Errorf("%s (%s): opened", v.ID, v.Note)
			}
			continue
		}
		if !ok {
			t.Errorf("%s (%s): not opened", v.ID, v.Note)
			continue
		}
		if got := p.append(nil); !bytes.Equal(got, v.Plaintext) {
			t.Errorf("%s: plaintext %x, want %x", v.ID, got, v.Plaintext)
		}
		if got := s.sealWith([nonceSize]byte(v.Nonce), &p); !bytes.Equal(got, v.Hex) {
			t.Errorf("%s: sealed %x, want %x", v.ID, got, v.Hex)
		}
	}
	for _, v := range connectVectors(t, "token") {
		s := &punchSeal{localSecret: [32]byte(v.LocalSecret)}
		if got := s.token(netip.MustParseAddr(v.Host)); !bytes.Equal(got[:], v.Hex) {
			t.Errorf("%s: token %x, want %x", v.ID, got, v.Hex)
		}
	}
}

// What one parser accepts, writing and reading again gives the same.
func fuzzCodec[T any](f *testing.F, kind string, parse func([]byte) (T, error), write func(*T) []byte) {
	for _, v := range connectVectors(f, kind) {
		f.Add([]byte(v.Hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			return
		}
		again, err := parse(write(&m))
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}

func FuzzHandshakeMessage(f *testing.F) {
	fuzzCodec(f, "handshake", parseHandshakeMessage, func(m *handshakeMessage) []byte { return m.append(nil) })
}

func FuzzHolepunchMessage(f *testing.F) {
	fuzzCodec(f, "holepunch", parseHolepunchMessage, func(m *holepunchMessage) []byte { return m.append(nil) })
}

func FuzzNoisePayload(f *testing.F) {
	fuzzCodec(f, "noisePayload", func(b []byte) (noisePayload, error) {
		p, err := parseNoisePayload(b)
		if p.version != payloadVersion {
			return noisePayload{}, errBadMessage // ends behind its version
		}
		if len(p.addresses4) == 0 {
			p.addresses4 = nil // an empty list is written as none
		}
		return p, err
	}, func(p *noisePayload) []byte { return p.append(nil) })
}

func FuzzPunchPayload(f *testing.F) {
	fuzzCodec(f, "holepunchPayload", parsePunchPayload, func(p *punchPayload) []byte { return p.append(nil) })
}

func FuzzConnectAddress(f *testing.F) {
	fuzzCodec(f, "connectAddress", func(b []byte) (ConnectAddress, error) {
		a, err := ParseConnectAddress(b)
		if len(a.Nodes) == 0 {
			a.Nodes = nil
		}
		return a, err
	}, func(a *ConnectAddress) []byte { return a.Append(nil) })
}

func TestClassFromWire(t *testing.T) {
	for n, want := range map[uint64]nat.Class{0: nat.Unknown, 1: nat.Open, 2: nat.Consistent, 3: nat.Random, 4: nat.Random, 1 << 52: nat.Random} {
		if got := classFromWire(n); got != want {
			t.Errorf("%d is %v, want %v", n, got, want)
		}
	}
}

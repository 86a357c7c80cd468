package sodium

import (
	"bytes"
	"testing"

	"golang.org/x/crypto/blake2b"

	"github.com/warren-dht/warren/internal/vectors"
)

// The members of testdata/noise.json that this package answers for; the others
// are checked in package noise.
func TestHashVectors(t *testing.T) {
	var v struct {
		KeyPairs []struct {
			PublicKey    vectors.Hex `json:"public_key"`
			Hash         vectors.Hex `json:"blake2b_256_of_public_key"`
			DiscoveryKey vectors.Hex `json:"discovery_key"`
		} `json:"key_pairs"`
		Hashes []struct {
			What           string
			Data, Key, Out vectors.Hex
		}
		Namespaces []struct {
			Name string
			IDs  []uint16 `json:"ids"` // not bytes, which encoding/json takes for base64
			Out  []vectors.Hex
		}
	}
	vectors.Load(t, "noise.json", &v)
	if len(v.KeyPairs) == 0 || len(v.Hashes) == 0 || len(v.Namespaces) == 0 {
		t.Fatal("vectors are missing")
	}
	for _, k := range v.KeyPairs {
		if got := Sum256(k.PublicKey); !bytes.Equal(got[:], k.Hash) {
			t.Errorf("hash of %x = %x, want %x", k.PublicKey, got, k.Hash)
		}
		if got := Sum256(k.PublicKey[:5], k.PublicKey[5:]); !bytes.Equal(got[:], k.Hash) {
			t.Errorf("hash of %x in two parts = %x, want %x", k.PublicKey, got, k.Hash)
		}
		if got := DiscoveryKey((*[32]byte)(k.PublicKey)); !bytes.Equal(got[:], k.DiscoveryKey) {
			t.Errorf("discovery key of %x = %x, want %x", k.PublicKey, got, k.DiscoveryKey)
		}
	}
	for _, h := range v.Hashes {
		var got []byte
		switch h.What {
		case "blake2b-256":
			sum := Sum256(h.Data)
			got = sum[:]
		case "blake2b-256 keyed":
			sum := KeyedSum256(h.Key, h.Data)
			got = sum[:]
		case "blake2b-512":
			sum := blake2b.Sum512(h.Data)
			got = sum[:]
		default:
			t.Fatalf("unknown kind of hash %q", h.What)
		}
		if !bytes.Equal(got, h.Out) {
			t.Errorf("%s of %x = %x, want %x", h.What, h.Data, got, h.Out)
		}
	}
	for _, n := range v.Namespaces {
		for i, id := range n.IDs {
			if got := Namespace(n.Name, byte(id)); !bytes.Equal(got[:], n.Out[i]) {
				t.Errorf("namespace %q %d = %x, want %x", n.Name, id, got, n.Out[i])
			}
		}
	}
}

// The encrypted datagrams of a secret stream are secretboxes; their member of
// testdata/secretstream.json is also checked in package secretstream.
func TestSecretbox(t *testing.T) {
	var v struct {
		Datagrams struct {
			Key       vectors.Hex `json:"initiator_key"`
			Initiator []struct{ Envelope, Plaintext vectors.Hex }
		}
	}
	vectors.Load(t, "secretstream.json", &v)
	if len(v.Datagrams.Initiator) == 0 {
		t.Fatal("vectors are missing")
	}
	key := (*[32]byte)(v.Datagrams.Key)
	for _, e := range v.Datagrams.Initiator {
		var nonce [24]byte
		copy(nonce[:], e.Envelope[:8])
		box := e.Envelope[8:]
		got := SealSecretbox([]byte("x"), e.Plaintext, &nonce, key)
		if len(box) != len(e.Plaintext)+SecretboxOverhead || string(got) != "x"+string(box) {
			t.Errorf("%x sealed to %x, want %x", e.Plaintext, got[1:], box)
		}
		if got, ok := OpenSecretbox(nil, box, &nonce, key); !ok || !bytes.Equal(got, e.Plaintext) {
			t.Fatalf("opened %x, %v, want %x", got, ok, e.Plaintext)
		}
		for i := range box {
			bad := bytes.Clone(box)
			bad[i] ^= 1
			if got, ok := OpenSecretbox(nil, bad, &nonce, key); ok {
				t.Errorf("box with byte %d changed opened to %q", i, got)
			}
			if _, ok := OpenSecretbox(nil, box[:i], &nonce, key); ok {
				t.Errorf("box cut to %d bytes opened", i)
			}
		}
	}
}

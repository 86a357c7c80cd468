package sodium

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/warren-dht/warren/internal/vectors"
)

// seal seals in a buffer whose other bytes are checked to stay as they were.
func seal(t testing.TB, s *Push, message []byte, tag byte) []byte {
	t.Helper()
	const before, after = Headroom + 5, 3
	b := bytes.Repeat([]byte{0xa5}, before+len(message)+StreamOverhead+after)
	copy(b[before+1:], message)
	s.SealInPlace(b, before, len(message), tag)
	checkUntouched(t, b, before, after)
	return b[before : len(b)-after]
}

func open(t testing.TB, s *Pull, sealed []byte) (message []byte, tag byte, ok bool) {
	t.Helper()
	const before, after = Headroom + 2, 7
	b := bytes.Repeat([]byte{0xa5}, before+len(sealed)+after)
	copy(b[before:], sealed)
	tag, ok = s.OpenInPlace(b, before, len(sealed))
	checkUntouched(t, b, before, after)
	if !ok {
		return nil, 0, false
	}
	return b[before+1:][:len(sealed)-StreamOverhead], tag, true
}

func checkUntouched(t testing.TB, b []byte, before, after int) {
	t.Helper()
	for i, c := range b {
		if (i < before || i >= len(b)-after) && c != 0xa5 {
			t.Fatalf("byte %d outside the message was changed", i)
		}
	}
}

func TestSecretstreamVectors(t *testing.T) {
	var v struct {
		Secretstream []struct {
			Name          string
			Key, Header   vectors.Hex
			InitialSubkey vectors.Hex `json:"initial_subkey"`
			InitialNonce  vectors.Hex `json:"initial_nonce"`
			Messages      []struct {
				Tag         byte
				Plaintext   vectors.Hex
				Ciphertext  vectors.Hex
				SubkeyAfter vectors.Hex `json:"subkey_after"`
				NonceAfter  vectors.Hex `json:"nonce_after"`
			}
		}
		Rejected []struct {
			Why                     string
			Key, Header, Ciphertext vectors.Hex
		} `json:"secretstream_rejected"`
	}
	vectors.Load(t, "secretstream.json", &v)
	if len(v.Secretstream) == 0 || len(v.Rejected) == 0 {
		t.Fatal("vectors are missing")
	}
	for _, e := range v.Secretstream {
		t.Run(e.Name, func(t *testing.T) {
			push := NewPush((*[32]byte)(e.Key), (*[24]byte)(e.Header))
			pull := NewPull((*[32]byte)(e.Key), (*[24]byte)(e.Header))
			if !bytes.Equal(push.key[:], e.InitialSubkey) {
				t.Fatalf("subkey %x, want %x", push.key, e.InitialSubkey)
			}
			// One entry starts near the counter's end (schema: set the nonce).
			copy(push.nonce[:], e.InitialNonce)
			copy(pull.nonce[:], e.InitialNonce)
			for i, m := range e.Messages {
				before := push
				got := seal(t, &push, m.Plaintext, m.Tag)
				if !bytes.Equal(got, m.Ciphertext) {
					t.Fatalf("message %d of %d bytes sealed to %x, want %x", i, len(m.Plaintext), got, m.Ciphertext)
				}
				before.Skip(got, m.Tag)
				plain, tag, ok := open(t, &pull, m.Ciphertext)
				if !ok || tag != m.Tag || !bytes.Equal(plain, m.Plaintext) {
					t.Fatalf("message %d opened to %x, tag %d, %v", i, plain, tag, ok)
				}
				for name, s := range map[string]streamState{"push": push.streamState, "pull": pull.streamState, "skipped": before.streamState} {
					if !bytes.Equal(s.key[:], m.SubkeyAfter) || !bytes.Equal(s.nonce[:], m.NonceAfter) {
						t.Fatalf("%s after message %d: key %x nonce %x, want %x %x", name, i, s.key, s.nonce, m.SubkeyAfter, m.NonceAfter)
					}
				}
			}
		})
	}
	for _, e := range v.Rejected {
		pull := NewPull((*[32]byte)(e.Key), (*[24]byte)(e.Header))
		before := pull
		if plain, _, ok := open(t, &pull, e.Ciphertext); ok {
			t.Errorf("%s: opened to %x", e.Why, plain)
		}
		if pull.key != before.key || pull.nonce != before.nonce {
			t.Errorf("%s: the state changed", e.Why)
		}
	}
}

// Both ways of computing the MAC, at all residues and around the sizes at
// which the assembly changes its stride.
func TestSecretstreamSizes(t *testing.T) {
	key, header := [32]byte{1}, [24]byte{2}
	push, pull := NewPush(&key, &header), NewPull(&key, &header)
	message := make([]byte, 4096)
	for i := range message {
		message[i] = byte(i * 7)
	}
	for n := 0; n <= len(message); n++ {
		if n > 700 && n%97 > 16 {
			continue
		}
		sealed := seal(t, &push, message[:n], TagMessage)
		for _, i := range []int{0, len(sealed) / 2, len(sealed) - 1} {
			sealed[i] ^= 0x10
			if _, _, ok := open(t, &pull, sealed); ok {
				t.Fatalf("%d bytes: byte %d changed and not noticed", n, i)
			}
			sealed[i] ^= 0x10
		}
		if _, _, ok := open(t, &pull, sealed[:len(sealed)-1]); ok {
			t.Fatalf("%d bytes: cut and not noticed", n)
		}
		got, _, ok := open(t, &pull, sealed)
		if !ok || !bytes.Equal(got, message[:n]) {
			t.Fatalf("%d bytes: not opened", n)
		}
		if _, _, ok := open(t, &pull, sealed); ok {
			t.Fatalf("%d bytes: opened twice", n)
		}
	}
}

func TestSecretstreamAllocates(t *testing.T) {
	key, header := [32]byte{1}, [24]byte{2}
	for _, n := range []int{0, 1, 100, 1000, 1024} {
		push, pull := NewPush(&key, &header), NewPull(&key, &header)
		b := make([]byte, Headroom+n+StreamOverhead)
		if allocs := testing.AllocsPerRun(100, func() {
			push.SealInPlace(b, Headroom, n, TagMessage)
			if _, ok := pull.OpenInPlace(b, Headroom, n+StreamOverhead); !ok {
				t.Fatal("not opened")
			}
		}); allocs != 0 {
			t.Errorf("%d bytes: %v allocations for a message sealed and opened", n, allocs)
		}
	}
}

func FuzzPull(f *testing.F) {
	key, header := [32]byte{1}, [24]byte{2}
	push := NewPush(&key, &header)
	first := seal(f, &push, []byte("first"), TagMessage)
	f.Add(first)
	f.Add([]byte{})
	f.Add(seal(f, &push, []byte("second"), TagMessage))
	f.Fuzz(func(t *testing.T, sealed []byte) {
		pull := NewPull(&key, &header)
		before := pull
		if _, _, ok := open(t, &pull, sealed); ok != bytes.Equal(sealed, first) {
			t.Fatalf("%x: opened is %v", sealed, ok)
		} else if !ok && (pull.key != before.key || pull.nonce != before.nonce) {
			t.Fatal("a refused message changed the state")
		}
	})
}

func BenchmarkSecretstream(b *testing.B) {
	for _, n := range []int{16, 64, 100, 1200, 16384, 16385, 65520} {
		key, header := [32]byte{1}, [24]byte{2}
		buf := make([]byte, Headroom+n+StreamOverhead)
		b.Run(fmt.Sprintf("seal/%d", n), func(b *testing.B) {
			push := NewPush(&key, &header)
			b.SetBytes(int64(n))
			for b.Loop() {
				push.SealInPlace(buf, Headroom, n, TagMessage)
			}
		})
		b.Run(fmt.Sprintf("both/%d", n), func(b *testing.B) {
			push, pull := NewPush(&key, &header), NewPull(&key, &header)
			b.SetBytes(int64(n))
			for b.Loop() {
				push.SealInPlace(buf, Headroom, n, TagMessage)
				if _, ok := pull.OpenInPlace(buf, Headroom, n+StreamOverhead); !ok {
					b.Fatal("not opened")
				}
			}
		})
	}
}

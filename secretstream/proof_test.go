package secretstream

import (
	"errors"
	"testing"

	"github.com/warren-dht/warren/internal/sodium"
	"github.com/warren-dht/warren/noise"
)

// WaitPeer believes a header, which an observer of the handshake can make.
// WaitProof does not: it wants a message sealed with the session's keys.
func TestHeaderProvesNothing(t *testing.T) {
	i, r := results()
	raw := newScript()
	b, err := New(raw, r, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	// The observer knows the hash, but neither Tx nor Rx nor the secret.
	forger := newScript()
	forged := noise.Result{Initiator: true, Hash: i.Hash, PublicKey: i.PublicKey, RemotePublicKey: i.RemotePublicKey}
	a, err := New(forger, forged, Config{Prove: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	raw.put(forger.writes...)
	if err := b.WaitPeer(); err != nil {
		t.Errorf("the header of the observer is refused (%v): the test proves nothing", err)
	}
	if err := b.WaitProof(); !errors.Is(err, ErrMessage) || b.Proven() {
		t.Errorf("waiting for the proof: %v, proven %v", err, b.Proven())
	}
}

// The proof is the first message, and it is not lost; that of Config.Prove is
// empty and travels in one piece with the header.
func TestProofIsTheFirstMessage(t *testing.T) {
	for _, c := range []struct {
		name  string
		cfg   Config
		write []string
		want  []string
	}{
		{"sent at once", Config{Prove: true, SkipEmpty: true}, []string{"a", "b"}, []string{"a", "b"}},
		{"sent at once, shown", Config{Prove: true}, []string{"a"}, []string{"", "a"}},
		{"the first words", Config{SkipEmpty: true}, []string{"hello", "b"}, []string{"hello", "b"}},
		{"a keep-alive", Config{}, []string{"", "c"}, []string{"", "c"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b, rawA, rawB := scripted(t, c.cfg)
			for _, m := range c.write {
				if err := a.WriteMessage([]byte(m)); err != nil {
					t.Fatal(err)
				}
			}
			if c.cfg.Prove && len(rawA.writes[0]) != prefixSize+headerSize+frameOverhead {
				t.Errorf("the first write has %d bytes", len(rawA.writes[0]))
			}
			rawB.put(rawA.writes...)
			for range 2 { // the second time it is known
				if err := b.WaitProof(); err != nil || !b.Proven() {
					t.Fatalf("waiting for the proof: %v, proven %v", err, b.Proven())
				}
			}
			for _, want := range c.want {
				if m, err := b.ReadMessage(); err != nil || string(m) != want {
					t.Errorf("read %q, %v, want %q", m, err, want)
				}
			}
			if n := uint64(len(c.write)*frameOverhead + total(c.write)); !c.cfg.Prove && a.BytesWritten() != n ||
				a.BytesWritten() != b.BytesRead() {
				t.Errorf("%d bytes written, %d read", a.BytesWritten(), b.BytesRead())
			}
		})
	}
}

// Read goes on where WaitProof stopped, too.
func TestReadAfterProof(t *testing.T) {
	a, b, rawA, rawB := scripted(t, Config{})
	for _, m := range []string{"", "hello", "", "world"} {
		if err := a.WriteMessage([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	rawB.put(rawA.writes...)
	if err := b.WaitProof(); err != nil {
		t.Fatal(err)
	}
	got := ""
	for len(got) < len("helloworld") {
		p := make([]byte, 3)
		n, err := b.Read(p)
		if err != nil || n == 0 {
			t.Fatalf("after %q: %d bytes, %v", got, n, err)
		}
		got += string(p[:n])
	}
	if got != "helloworld" {
		t.Errorf("read %q", got)
	}
}

func total(s []string) (n int) {
	for _, m := range s {
		n += len(m)
	}
	return n
}

// The keys of this package's own namespaces are none of the reference's.
func TestSecretNamespaces(t *testing.T) {
	seen := map[[32]byte]bool{nsInitiator: true, nsResponder: true, nsSend: true}
	for _, ns := range [][32]byte{nsSecretInitiator, nsSecretResponder, sodium.Namespace("hyperswarm/dht", 1)} {
		if seen[ns] {
			t.Errorf("namespace %x serves twice", ns)
		}
		seen[ns] = true
	}
}

package secretstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"github.com/warren-dht/warren/noise"
)

// Whatever an attacker makes of the bytes on the wire, the reader gets a prefix
// of what was sent, and then an error.
func FuzzInput(f *testing.F) {
	i, r := results()
	raw := newScript()
	a, err := New(raw, i, Config{header: &[24]byte{9}})
	if err != nil {
		f.Fatal(err)
	}
	sent := [][]byte{[]byte("first"), {}, bytes.Repeat([]byte{7}, 300), []byte("last")}
	if _, err := a.WriteMessages(sent); err != nil {
		f.Fatal(err)
	}
	wire := raw.written()
	f.Add(wire, uint16(0), uint16(0), byte(1))
	f.Add(wire[:59], uint16(0), uint16(0), byte(7))
	f.Add([]byte{}, uint16(30), uint16(0), byte(200))          // another id
	f.Add([]byte{}, uint16(60), uint16(3), byte(1))            // without a length
	f.Add([]byte{0xff, 0xff}, uint16(59), uint16(2), byte(64)) // a huge frame
	f.Add(wire[59:84], uint16(84), uint16(0), byte(5))         // a replay
	for _, e := range load(f).Input {
		f.Add(bytes.Join([][]byte{e.Raw[0]}, nil), uint16(0), uint16(59), byte(3))
	}
	// The wire, with cut bytes at the position replaced by insert, comes in
	// pieces.
	f.Fuzz(func(t *testing.T, insert []byte, at, cut uint16, piece byte) {
		start := min(int(at), len(wire))
		end := min(start+int(cut), len(wire))
		in := bytes.Join([][]byte{wire[:start], insert, wire[end:]}, nil)
		raw := newScript()
		for b := in; len(b) > 0; {
			n := min(len(b), 1+int(piece))
			raw.put(b[:n:n])
			b = b[n:]
		}
		raw.end(io.EOF)
		c, err := New(raw, r, Config{})
		if err != nil {
			t.Fatal(err)
		}
		received := 0
		for {
			m, err := c.ReadMessage()
			if err != nil {
				if err == io.EOF && received < len(sent) && bytes.Equal(in, wire) {
					t.Fatalf("%d messages of an unharmed wire", received)
				}
				break
			}
			if received == len(sent) || !bytes.Equal(m, sent[received]) {
				t.Fatalf("message %d is %x", received, m)
			}
			received++
		}
		if held := c.in.buf; held != nil {
			t.Errorf("a broken stream holds %d bytes", held.size())
		}
	})
}

// Anything may knock at a server or answer a client.
func FuzzHandshakeInput(f *testing.F) {
	v := load(f).XX
	for _, writes := range [][]string{v.Initiator.Writes, v.Responder.Writes} {
		wire, _ := wireOf(f, writes)
		f.Add(wire, byte(5))
		f.Add(wire[:40], byte(0))
	}
	f.Add([]byte{0xff, 0xff, 0xff}, byte(3))
	own, peer := noise.KeyPairFromSeed([32]byte{1}), noise.KeyPairFromSeed([32]byte{2})
	f.Fuzz(func(t *testing.T, in []byte, mode byte) {
		raw := newScript()
		raw.put(in)
		raw.end(io.EOF)
		cfg := Config{Static: own, RemotePublicKey: peer.Public, Pattern: noise.Pattern(mode & 1)}
		shake := Server
		if mode&2 != 0 {
			shake = Client
		}
		c, err := shake(context.Background(), raw, cfg)
		if err == nil {
			// Only the holder of peer's secret can get through XX, and into IK
			// as responder; IK's first message could have been recorded.
			if mode&1 == 0 || mode&2 != 0 {
				t.Fatalf("a peer without the key got through with %x", in)
			}
			if m, err := c.ReadMessage(); err == nil {
				t.Fatalf("read %x", m)
			}
			return
		}
		if !errors.Is(err, ErrHandshake) || !raw.closed {
			t.Fatalf("closed: %v, %v", raw.closed, err)
		}
	})
}

// A write that the deadline cuts, several times, wherever: what is said to be
// on its way arrives, in order, once.
func FuzzCutWrites(f *testing.F) {
	f.Add([]byte{1, 2, 3, 50, 0, 255, 4, 9})
	f.Add([]byte{200, 0, 0, 0, 7, 19, 20, 21})
	f.Fuzz(func(t *testing.T, ops []byte) {
		i, r := results()
		rawA, rawB := newScript(), newScript()
		a, err := New(rawA, i, Config{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := New(rawB, r, Config{})
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		next := byte(0)
		for len(ops) >= 2 {
			size, cut := int(ops[0])*int(ops[0]), int(ops[1])
			ops = ops[2:]
			if cut > 128 {
				cut *= 150
			}
			p := make([]byte, size)
			for i := range p {
				p[i] = next
				next++
			}
			rawA.writeCut = cut
			n, err := a.Write(p)
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) || err == nil && n < len(p) {
				t.Fatal(n, err)
			}
			want = append(want, p[:n]...)
			next -= byte(len(p) - n)
		}
		rawA.writeCut = -1
		if err := a.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		rawB.put(rawA.written())
		rawB.end(io.EOF)
		if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d of %d bytes, %v", len(got), len(want), err)
		}
	})
}

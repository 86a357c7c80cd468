package secretstream

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestDatagrams(t *testing.T) {
	t.Run("secret", func(t *testing.T) { testDatagrams(t, DatagramsSecret) })
	t.Run("insecure", func(t *testing.T) { testDatagrams(t, DatagramsInsecure) })
}

func testDatagrams(t *testing.T, keys DatagramKeys) {
	a, b, rawA, rawB := scripted(t, Config{Datagrams: keys})
	for _, m := range []string{"one", "", "three"} {
		if err := a.Send([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	own := rawA.sent[0]
	forged := bytes.Clone(rawA.sent[1])
	forged[10] ^= 1
	rawB.messages = [][]byte{nil, forged, rawA.sent[2], make([]byte, DatagramOverhead-1), make([]byte, 100), rawA.sent[0], rawA.sent[1], rawA.sent[0]}
	buf := make([]byte, 4)
	// Overtaken, cut to the buffer, empty, replayed.
	for _, want := range []string{"thre", "one", "", "one"} {
		if n, err := b.Receive(buf); err != nil || string(buf[:n]) != want {
			t.Errorf("received %q, %v, want %q", buf[:n], err, want)
		}
	}
	if n, err := b.Receive(buf); err != io.EOF {
		t.Errorf("received %q, %v", buf[:n], err)
	}
	rawA.messages = [][]byte{own}
	if n, err := a.Receive(buf); err != io.EOF {
		t.Errorf("received its own %q, %v", buf[:n], err)
	}

	p, q := tcp(t)
	c, _ := shaken(t, p, q, Config{Datagrams: keys}, Config{Datagrams: keys})
	if err := c.Send(nil); !errors.Is(err, ErrNoDatagrams) {
		t.Error(err)
	}
	if _, err := c.Receive(nil); !errors.Is(err, ErrNoDatagrams) {
		t.Error(err)
	}
}

// An observer of the handshake, who can compute its hash, can neither read nor
// forge datagrams whose keys come from the handshake's secret. The insecure form
// shows that the test's observer does what it should.
func TestDatagramsFromThePublicHash(t *testing.T) {
	for _, c := range []struct {
		keys DatagramKeys
		open bool
	}{{DatagramsSecret, false}, {DatagramsInsecure, true}} {
		a, b, rawA, rawB := scripted(t, Config{Datagrams: c.keys})
		if err := a.Send([]byte("the password is swordfish")); err != nil {
			t.Fatal(err)
		}
		for _, keys := range []DatagramKeys{DatagramsSecret, DatagramsInsecure} {
			observer := &Conn{initiator: true, hash: a.HandshakeHash(), keys: keys}
			if _, ok := observer.newDatagrams(0).open(nil, rawA.sent[0]); ok {
				t.Errorf("%v: a datagram opens in the wrong direction", c.keys)
			}
			observer.initiator = false
			if _, ok := observer.newDatagrams(0).open(nil, rawA.sent[0]); ok != (c.open && keys == c.keys) {
				t.Errorf("%v: the observer's %v open a datagram: %v", c.keys, keys, ok)
			}
			observer.initiator = true
			forged, err := observer.newDatagrams(0).seal(nil, []byte("forged"))
			if err != nil {
				t.Fatal(err)
			}
			rawB.messages = [][]byte{forged}
			if _, err := b.Receive(make([]byte, 10)); (err == nil) != (c.open && keys == c.keys) {
				t.Errorf("%v: receiving what the observer forged with %v: %v", c.keys, keys, err)
			}
		}
	}
}

// Datagrams whose keys are public are refused unless they are asked for by name.
func TestDatagramsAreRefusedByDefault(t *testing.T) {
	a, _, rawA, _ := scripted(t, Config{})
	if err := a.Send([]byte("x")); !errors.Is(err, ErrInsecureDatagrams) || len(rawA.sent) != 0 {
		t.Errorf("sending: %v, %d datagrams left", err, len(rawA.sent))
	}
	if _, err := a.Receive(make([]byte, 1)); !errors.Is(err, ErrInsecureDatagrams) {
		t.Errorf("receiving: %v", err)
	}
}

func TestDatagramsSpent(t *testing.T) {
	c := &Conn{keys: DatagramsSecret}
	d := c.newDatagrams(5)
	d.counter = 3
	if _, err := d.seal(nil, nil); err != nil {
		t.Fatal(err)
	}
	if b, err := d.seal(nil, nil); !errors.Is(err, ErrDatagramsSpent) {
		t.Fatalf("%x, %v", b, err)
	}
}

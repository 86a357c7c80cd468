package secretstream

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestDatagrams(t *testing.T) {
	a, b, rawA, rawB := scripted(t, Config{})
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
	c, _ := shaken(t, p, q, Config{}, Config{})
	if err := c.Send(nil); !errors.Is(err, ErrNoDatagrams) {
		t.Error(err)
	}
	if _, err := c.Receive(nil); !errors.Is(err, ErrNoDatagrams) {
		t.Error(err)
	}
}

func TestDatagramsSpent(t *testing.T) {
	c := &Conn{}
	d := c.newDatagrams(5)
	d.counter = 3
	if _, err := d.seal(nil, nil); err != nil {
		t.Fatal(err)
	}
	if b, err := d.seal(nil, nil); !errors.Is(err, ErrDatagramsSpent) {
		t.Fatalf("%x, %v", b, err)
	}
}

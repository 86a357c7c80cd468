package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/examples/internal/printed"
	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/hyperdhttest"
	"github.com/warren-dht/warren/vnet"
)

// A visitor is one run of the program.
type visitor struct {
	key   hyperdht.PublicKey
	says  *io.PipeWriter
	heard printed.Buffer
	done  chan error
}

func enter(t *testing.T, net *hyperdhttest.Network, name, room string) *visitor {
	pair := hyperdht.GenerateKeyPair()
	in, says := io.Pipe()
	v := &visitor{key: pair.Public, says: says, done: make(chan error, 1)}
	cfg := net.Config(hyperdht.Config{KeyPair: &pair, Network: net.Internet.NAT(vnet.Cone).Host()})
	go func() { v.done <- run(t.Context(), in, &v.heard, cfg, options{name: name, room: room}) }()
	time.Sleep(time.Minute)
	return v
}

func (v *visitor) say(line string) {
	fmt.Fprintln(v.says, line)
	time.Sleep(time.Second)
}

func (v *visitor) line(who *visitor, text string) string {
	return fmt.Sprintf("[%s] %s\n", who.key.String()[:8], text)
}

// Three people behind three NATs meet in a room, one leaves, one is elsewhere.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := hyperdhttest.StartVirtual(t, 10)
		alice, bob := enter(t, net, "alice", "garden"), enter(t, net, "bob", "garden")
		carol, dave := enter(t, net, "carol", "garden"), enter(t, net, "dave", "cellar")
		time.Sleep(time.Minute) // everybody has looked for the others again

		alice.say("hello \x1b[31mall")
		bob.say("hi")
		dave.say("is anybody here?")
		carol.says.Close()
		if err := <-carol.done; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		alice.say("she has left")
		for _, v := range []*visitor{alice, bob, dave} {
			v.says.Close()
			if err := <-v.done; err != nil {
				t.Error(err)
			}
		}

		for _, c := range []struct {
			who  *visitor
			line string
			want int
		}{
			{bob, bob.line(alice, "alice: hello [31mall"), 1},
			{carol, carol.line(alice, "alice: hello [31mall"), 1},
			{alice, alice.line(bob, "bob: hi"), 1},
			{carol, carol.line(bob, "bob: hi"), 1},
			{bob, bob.line(alice, "alice: she has left"), 1},
			{carol, "she has left", 0},
			{alice, fmt.Sprintf("* %s has left\n", carol.key.String()[:8]), 1},
			{alice, "anybody", 0},
			{dave, "is here", 0},
		} {
			if n := strings.Count(c.who.heard.String(), c.line); n != c.want {
				t.Errorf("%q was printed %d times, want %d, in:\n%s", c.line, n, c.want, &c.who.heard)
			}
		}
	})
}

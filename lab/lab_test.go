// Package lab holds experiments with whole networks: real nodes on a virtual
// internet (package vnet), in virtual time (testing/synctest). Hours take
// seconds, and nothing depends on how busy the machine is. What they assert are
// outcomes and bounds; what one node does datagram by datagram is tested in its
// own package, and real sockets behind real NATs in natlab.
package lab

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/hyperdhttest"
	"github.com/warren-dht/warren/vnet"
)

// dhtSize is the number of public nodes in most experiments.
const dhtSize = 16

// A world is a virtual internet with a HyperDHT. Hosts on its public part are 20
// ms apart, so that a round trip takes 40.
type world struct {
	*hyperdhttest.Network
	t *testing.T
}

// inBubble runs an experiment in virtual time.
func inBubble(t *testing.T, size int, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		f(&world{hyperdhttest.StartVirtual(t, size), t})
	})
}

// draw makes the links of the hosts that come have another luck. Each link has
// its own, by its number.
func (w *world) draw(luck int) {
	for range luck {
		w.Internet.Host()
	}
}

// join starts a node on a host and waits until it is ready.
func (w *world) join(h *vnet.Host, cfg hyperdht.Config) *hyperdht.Node {
	w.t.Helper()
	cfg.Network = h
	return w.Join(cfg)
}

// echo is a listener that sends back what comes. Accepted gets the connections.
type echo struct {
	*hyperdht.Listener
	accepted chan *hyperdht.Conn
}

// serve listens on a node until the end of the test.
func (w *world) serve(n *hyperdht.Node, cfg hyperdht.ListenConfig) *echo {
	w.t.Helper()
	l, err := n.Listen(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	e := &echo{l, make(chan *hyperdht.Conn, 1000)}
	go func() {
		for {
			c, err := l.AcceptConn(context.Background())
			if err != nil {
				return
			}
			e.accepted <- c
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	return e
}

// dial connects, within a minute.
func (w *world) dial(n *hyperdht.Node, key hyperdht.PublicKey) (*hyperdht.Conn, time.Duration, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	start := time.Now()
	c, err := n.Dial(ctx, key)
	return c, time.Since(start), err
}

// talk sends so many bytes through an echo and fails the test unless they come
// back within the time.
func talk(t *testing.T, c *hyperdht.Conn, size int, within time.Duration) {
	t.Helper()
	if err := tryTalk(c, size, within); err != nil {
		t.Errorf("%v: %v", c.Path(), err)
	}
}

func tryTalk(c *hyperdht.Conn, size int, within time.Duration) error {
	data := make([]byte, size)
	rng := rand.New(rand.NewPCG(1, uint64(size)))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	c.SetDeadline(time.Now().Add(within))
	defer c.SetDeadline(time.Time{})
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- err
	}()
	got := make([]byte, size)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if err := <-sent; err != nil {
		return err
	}
	for i := range got {
		if got[i] != data[i] {
			return errors.New("something else came back")
		}
	}
	return nil
}

// isFalse is for Config.Firewalled.
func isFalse() *bool { return new(bool) }

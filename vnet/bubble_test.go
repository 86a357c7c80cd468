package vnet

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/udp"
)

// bubble runs a test in virtual time on an internet without latency and hops.
func bubble(t *testing.T, f func(*testing.T, *Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		n.SetLink(Link{})
		f(t, n)
		n.Close()
	})
}

// A sock is a socket that notes what it hears, as "payload from address".
type sock struct {
	t *testing.T
	udp.Conn
	addr netip.AddrPort // at which others in its segment reach it

	mu    sync.Mutex
	heard []string
	last  netip.AddrPort
}

func open(t *testing.T, h *Host, port uint16) *sock {
	t.Helper()
	c, err := h.Listen(netip.AddrPortFrom(netip.IPv4Unspecified(), port))
	if err != nil {
		t.Fatal(err)
	}
	s := &sock{t: t, Conn: c, addr: netip.AddrPortFrom(h.Addr(), c.LocalAddr().Port())}
	go udp.Serve(c, s)
	return s
}

func (s *sock) HandleBatch(_ udp.Conn, in []udp.Datagram) []udp.Datagram {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range in {
		s.heard = append(s.heard, fmt.Sprintf("%s from %v", d.Payload, d.Peer))
		s.last = d.Peer
	}
	return nil
}

// say sends to some addresses and waits until everything has settled.
func (s *sock) say(what string, to ...netip.AddrPort) {
	for _, a := range to {
		s.WriteBatch([]udp.Datagram{{Payload: []byte(what), Peer: a}})
	}
	settle()
}

// settle lets a second pass.
func settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

// want checks what was heard since the last call.
func (s *sock) want(why string, lines ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.heard, lines) {
		s.t.Errorf("%s: heard %q, want %q", why, s.heard, lines)
	}
	s.heard = nil
}

// from is whom the last datagram came from.
func (s *sock) from() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = nil
	return s.last
}

func newTestRand() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

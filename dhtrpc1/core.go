package dhtrpc1

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/internal/call"
	"github.com/warren-dht/warren/internal/token"
	"github.com/warren-dht/warren/kad"
	"github.com/warren-dht/warren/udp"
)

// A core is all the protocol sense of a node, without goroutine, socket or
// clock. Owned by the node's loop, which hands in datagrams and the time, and
// sends what stands in out.
type core struct {
	id        ID
	ephemeral bool
	bootstrap []netip.AddrPort
	handler   Handler
	log       *slog.Logger

	table   *kad.Table[ID, standing]
	secrets *token.Secrets
	relays  relayLimit

	calls       *call.Table[*ask]
	concurrency int    // calls in flight at most
	queue       []*ask // waits for a place
	queries     int    // queries under way

	bootstrapped bool
	own          []netip.AddrPort // where our socket receives
	ticks        int
	nextTick     time.Time
	checks       int // pings of the table's upkeep under way

	unanswered []*Request // the handlers have them; oldest first
	open       int        // requests that take up room among the replies
	deliver    func(*Request)

	out   []udp.Datagram
	stats Stats
}

func newCore(cfg *Config, now time.Time) *core {
	r := rand.New(cfg.Rand)
	c := &core{
		id:          cfg.ID,
		ephemeral:   cfg.Ephemeral,
		bootstrap:   cfg.Bootstrap,
		handler:     cfg.Handler,
		log:         cfg.Logger,
		table:       kad.NewTable[ID, standing](cfg.ID, K, limits),
		secrets:     newSecrets(),
		calls:       call.NewTable[*ask](r, 15),
		concurrency: cfg.Concurrency,
		nextTick:    now.Add(tick),
	}
	for _, n := range cfg.Nodes {
		if n.Addr = unmapped(n.Addr); sendable(n.Addr) {
			c.table.Insert(n, standing{heard: now})
		}
	}
	return c
}

// receive takes one datagram, which the core may keep.
func (c *core) receive(now time.Time, from netip.AddrPort, b []byte) {
	c.stats.Received++
	switch {
	case !sendable(from) || len(b) < headerSize:
		c.stats.Malformed++
	case isRequest(b):
		r, err := parseRequest(b)
		if err != nil {
			c.stats.Malformed++
			return
		}
		c.stats.Requests++
		c.onRequest(now, from, &r)
	default:
		r, err := parseResponse(b)
		if err != nil {
			c.stats.Malformed++
			return
		}
		c.onResponse(now, from, &r)
	}
}

// advance does what is due.
func (c *core) advance(now time.Time) {
	c.expire(now)
	if now.Before(c.nextTick) {
		return
	}
	// After a sleep of the machine the ticks that were missed stay missed.
	c.nextTick = now.Add(tick)
	c.ticks++
	c.verify(now)
	if c.ticks%sweepTicks == 0 {
		c.sweep(now)
	}
	c.forget(now)
}

// deadline is when advance must be called at the latest.
func (c *core) deadline() time.Time {
	if d, ok := c.calls.Deadline(); ok && d.Before(c.nextTick) {
		return d
	}
	return c.nextTick
}

// send puts a datagram among those to be sent.
func (c *core) send(to netip.AddrPort, b []byte) {
	c.stats.Sent++
	c.out = append(c.out, udp.Datagram{Payload: b, Peer: to})
}

// ownID is the id that goes into our messages: none if we are ephemeral
// (docs/spec/dht-rpc-v2.md §6.1).
func (c *core) ownID() []byte {
	if c.ephemeral {
		return nil
	}
	return c.id[:]
}

// unmapped is a, as an IPv4 address if it is an IPv4-mapped one, which is how
// package net likes to return them.
func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// sendable tells whether a is an address that a node can have.
func sendable(a netip.AddrPort) bool {
	ip := a.Addr()
	return ip.Is4() && a.Port() != 0 && !ip.IsUnspecified() && !ip.IsMulticast() && ip != broadcast
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// Stats counts what a node met. All but Nodes and InFlight only grow.
type Stats struct {
	Received   uint64 // datagrams read
	Overflow   uint64 // of them, dropped because the loop did not keep up
	Malformed  uint64 // of them, dropped because they cannot be decoded
	Requests   uint64 // of them, requests
	Unexpected uint64 // of them, responses that nobody waits for
	Refused    uint64 // requests dropped: void, over a limit, or forwarded whither they must not be
	Relayed    uint64 // pings relayed for others
	Sent       uint64 // datagrams sent
	Timeouts   uint64 // requests of ours without an answer
	Nodes      int    // contacts in the table
	InFlight   int    // requests of ours under way
}

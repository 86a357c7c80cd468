package dhtrpc

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/crypto/blake2b"

	"github.com/warren-dht/warren/internal/bucket"
	"github.com/warren-dht/warren/internal/call"
	"github.com/warren-dht/warren/internal/keep"
	"github.com/warren-dht/warren/internal/token"
	"github.com/warren-dht/warren/kad"
	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/udp"
)

// tokenPeriod is how long a secret signs: ten drains of 750 ms
// (docs/spec/dht-rpc.md §3).
const tokenPeriod = 10 * slotTime

// A core is the protocol as a function of datagrams and time: it starts no
// goroutine, waits for nothing and reads no clock. What it wants sent it puts
// into out, what it wants told into events, and procedures that it wants run
// into wanted; the Node carries all three out. Sockets are only names here.
// Guarded by the Node's mutex.
type core struct {
	node *Node     // for requests to be detached, never called
	now  time.Time // of the present step

	cfg  Config
	boot []bootstrapNode
	rand *rand.Rand

	out    *output // of the present step
	events []Event
	wanted []task
	after  []func() // run when the lock is released

	server, client udp.Conn     // closed while suspended
	local          []netip.Addr // where they can be reached on this machine
	firewalled     bool
	ephemeral      bool
	bootstrapped   bool
	suspended      bool
	unsettled      bool // we have not looked for our place since our address may have changed

	table   *table
	tick    int32     // counts 5 s
	ticked  time.Time // wall clock of the last tick
	nextAt  time.Time // of the next one
	refresh int       // ticks until the next refresh
	stable  int       // ticks until the next try to become persistent
	lastIP  netip.Addr
	moved   int // ticks since our id is not that of our public address

	nat     *nat.Sampler
	votes   [16]vote         // of the last samples
	voted   int              // samples, votes[voted%16] is overwritten next
	strange []netip.AddrPort // id-less sources that were sampled
	heard   map[netip.Addr]bool

	queries map[*Query]struct{}
	calls   *call.Table[outgoing]
	queue   []*inflight // transmissions that wait for the window
	window  window
	rtt     call.RTT   // of all answers
	timing  *estimator // nil: fixed timeouts
	secrets *token.Secrets

	unproven   *bucket.Table[netip.Prefix] // bytes beyond freeFactor; nil: no limit
	silent     *keep.Map[netip.AddrPort, silence, struct{}]
	suspects   map[netip.AddrPort]bool // pinged since they were late
	answeredAt time.Time               // the last response
	gone       int                     // nodes that have left the table since the last tick, for being silent

	checks  int // liveness checks of down hints under way
	swaps   int // repings of full buckets under way
	hints   int // down hints sent in this tick
	hinted  map[netip.Addr]int
	proving map[netip.AddrPort]bool // strangers that are being verified
	// Verifications that timed out. Anybody can cause them, so they say nothing
	// about our connection.
	unproved int
	delayed  delayedPings

	health  health
	stats   Stats
	alarmed time.Time // when the last panic of a handler was logged
	serving Request   // handed to the handler
	asked   int       // size of the request that is being answered
	reply   Reply     // handed to the requester
	own     ID        // what idOn returned last
	token   [32]byte  // of the reply that is being written
	near    []*kad.Node[ID, entry]
	nearRaw [K * 6]byte
}

// A task is a procedure that the core wants run.
type task int

const (
	taskRefresh task = iota
	taskNetworkState
	taskSettle
)

type table = kad.Table[ID, entry]

// tokenHash is the token of an address: the hash of its text, keyed with the
// secret (docs/spec/dht-rpc.md §3).
func tokenHash(secret *[32]byte, ip netip.Addr) (t [32]byte) {
	h, err := blake2b.New256(secret[:])
	if err != nil {
		panic("BUG: dhtrpc: " + err.Error())
	}
	var text [15]byte
	h.Write(ip.AppendTo(text[:0]))
	h.Sum(t[:0])
	return t
}

func newCore(cfg Config, boot []bootstrapNode, now time.Time) *core {
	r := rand.New(cfg.Rand)
	c := &core{
		now:        now,
		cfg:        cfg,
		boot:       boot,
		rand:       r,
		firewalled: cfg.Firewalled == nil || *cfg.Firewalled,
		ephemeral:  true,
		unsettled:  true,
		tick:       100 - r.Int32N(50),
		ticked:     now.Round(0),
		nextAt:     now.Add(tickTime),
		refresh:    refreshTicks - r.IntN(refreshTicks/2),
		stable:     stableTicks,
		nat:        new(nat.Sampler),
		queries:    map[*Query]struct{}{},
		calls:      call.NewTable[outgoing](r, 16),
		window:     window{max: cfg.MaxWindow, since: now},
	}
	c.secrets = token.New(32, tokenPeriod, tokenHash, func(b []byte) {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	})
	var own ID
	for i := range own {
		own[i] = byte(r.Uint32())
	}
	c.table = kad.NewTable[ID, entry](own, K, cfg.Limits.table())
	c.silent = newSilent()
	if n := cfg.Limits.UnprovenBytes; n != noLimit {
		c.unproven = bucket.New[netip.Prefix](n, 8*n)
	}
	if cfg.AdaptiveTimeout != nil {
		c.timing = newEstimator(*cfg.AdaptiveTimeout, now)
	}
	if cfg.Public.IsValid() {
		c.nat.Add(cfg.Public)
	}
	for i := len(cfg.Nodes) - 1; i >= 0; i-- {
		c.addNode(cfg.Nodes[i])
	}
	return c
}

// receive takes a datagram of ours: its first byte is that of a request or a
// reply.
func (c *core) receive(conn udp.Conn, d *udp.Datagram) {
	if c.suspended {
		c.stats.Bad.Suspended++
		return
	}
	if !addressable(d.Peer) {
		c.stats.Bad.Address++
		return
	}
	if c.heard != nil && conn == c.server {
		if _, asked := c.heard[d.Peer.Addr()]; asked {
			c.heard[d.Peer.Addr()] = true
		}
	}
	if d.Payload[0] == requestByte {
		m, err := parseRequest(d.Payload)
		if err != nil {
			c.stats.Bad.Malformed++
			return
		}
		c.asked = len(d.Payload)
		c.serve(conn, d.Peer, &m)
		return
	}
	m, err := parseReply(d.Payload)
	if err != nil {
		c.stats.Bad.Malformed++
		return
	}
	c.answered(conn, d.Peer, &m)
}

// advance does what is due.
func (c *core) advance() {
	if c.suspended {
		return
	}
	c.window.advance(c.now)
	c.expire()
	c.pump()
	c.delayed.release(c)
	if !c.now.Before(c.nextAt) {
		c.onTick()
	}
}

// deadline is the earliest time at which something is due.
func (c *core) deadline() (t time.Time, ok bool) {
	if c.suspended {
		return t, false
	}
	t = c.nextAt
	if d, ok := c.calls.Deadline(); ok && d.Before(t) {
		t = d
	}
	if len(c.queue) > 0 && c.window.turn().Before(t) {
		t = c.window.turn()
	}
	if d, ok := c.delayed.deadline(); ok && d.Before(t) {
		t = d
	}
	return t, true
}

// emit tells of an event.
func (c *core) emit(kind EventKind, addr netip.AddrPort) {
	c.events = append(c.events, Event{kind, addr})
}

// want asks for a procedure to be run.
func (c *core) want(t task) { c.wanted = append(c.wanted, t) }

// past returns the events that describe the present state.
func (c *core) past() (events []Event) {
	if c.server != nil {
		events = append(events, Event{EventListening, c.server.LocalAddr()})
	}
	if !c.ephemeral {
		a, _ := c.nat.AddrPort()
		events = append(events, Event{EventPersistent, a})
	}
	if c.bootstrapped {
		events = append(events, Event{EventReady, netip.AddrPort{}})
	}
	return events
}

// conn is the socket that requests use now: the client one while firewalled, so
// that nothing opens a mapping for the server one and the test of it proves
// something (docs/spec/dht-rpc.md §5.1).
func (c *core) conn() udp.Conn {
	if c.firewalled {
		return c.client
	}
	return c.server
}

// idOn is the id that messages on a socket bear: ours, if the node is
// persistent and the socket is the server one (docs/spec/dht-rpc.md §2.2).
func (c *core) idOn(conn udp.Conn) *ID {
	if c.ephemeral || conn != c.server || c.suspended {
		return nil
	}
	c.own = c.table.Own()
	return &c.own
}

// prove returns the sender's id if it is that of its address. An id that is not
// makes the sender id-less, no more (docs/spec/dht-rpc.md §2.3).
func (c *core) prove(from netip.AddrPort, claimed *ID) *ID {
	if claimed == nil {
		return nil
	}
	if n := c.table.Get(*claimed); n != nil && n.Addr == from {
		return claimed
	}
	if IDOf(from) != *claimed {
		return nil
	}
	return claimed
}

// isOwn reports whether an address is one of ours, so that a query does not ask
// ourselves: the reference does (docs/spec/dht-rpc.md §12).
func (c *core) isOwn(a netip.AddrPort) bool {
	if a == publicAddr(c.nat) && !c.firewalled {
		return true
	}
	if c.server == nil || a.Port() != c.server.LocalAddr().Port() && a.Port() != c.client.LocalAddr().Port() {
		return false
	}
	return slices.Contains(c.local, a.Addr())
}

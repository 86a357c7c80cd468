package hyperdht

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/noise"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
)

// DialConfig says how a connection is made. The zero value is good.
type DialConfig struct {
	// KeyPair is who we are to the peer; nil is the node's. Its secret may live
	// elsewhere.
	KeyPair StaticKey
	// Nodes are DHT nodes that are likely to know the peer, such as those of a
	// [ConnectAddress] or a [Peer]; they are asked first. (The reference's
	// documentation calls them nodes, its code relayAddresses.)
	Nodes []netip.AddrPort
	// RelayThrough lists blind relays; one is picked at random. The connection
	// may start through it while a direct path is being looked for. The peer has
	// to agree (ListenConfig.AllowRelay), unless it names relays itself.
	RelayThrough []PublicKey
	// KeepAlive is how long the connection may be silent before an empty message
	// keeps it alive; 0 is the node's setting, negative is never.
	KeepAlive time.Duration
	// MaxMessage is the largest message that the connection accepts, in bytes.
	// Zero means the node's [Config].MaxMessage.
	MaxMessage int
	// NoLAN neither tells nor uses addresses on the local network.
	NoLAN bool
	// NoFastOpen waits for the peer's answer before the first punch.
	NoFastOpen bool
	// Holepunch, if not nil, is asked before punching starts; false, or a panic,
	// aborts it. While it waits, so does Dial.
	Holepunch func(PunchAttempt) bool
	// ReusableSocket lets the next connections to this peer use the path of
	// this one while it lasts, without a relay or a punch, if the peer wants
	// that too.
	ReusableSocket bool

	// InsecureDatagrams lets Conn.Send and Conn.Receive use the reference's keys
	// with a peer that has no secret ones; see
	// [secretstream.DatagramsInsecure] for what that gives away. Without it they
	// fail with such a peer.
	InsecureDatagrams bool

	// noRelay ignores the blind relay that the peer names, as when the peer is
	// a blind relay itself: each could name another.
	noRelay bool
	// pathOnly makes a connection that the peer does not hand out: what counts
	// is the path that is found.
	pathOnly bool
	// plain makes us a peer that proves nothing, as the reference is, in tests.
	plain bool
}

// Dial connects to the peer with that public key, whoever and wherever it is,
// and returns when the peer has proved that it holds the key on the path that
// was found. The error is a [*ConnectError] that tells what was tried.
func (n *Node) Dial(ctx context.Context, key PublicKey) (*Conn, error) {
	return n.DialWith(ctx, key, DialConfig{})
}

// DialWith is Dial with options.
func (n *Node) DialWith(ctx context.Context, key PublicKey, cfg DialConfig) (*Conn, error) {
	start := time.Now()
	n.stats.dials.Add(1)
	if cfg.KeyPair == nil {
		cfg.KeyPair = n.keyPair
	}
	switch {
	case cfg.KeepAlive == 0:
		cfg.KeepAlive = n.cfg.KeepAlive
	case cfg.KeepAlive < 0:
		cfg.KeepAlive = 0
	}
	d := &dial{node: n, key: key, cfg: cfg, target: TargetOf(key), report: ConnectError{Key: key}}
	c, err := d.begin(ctx)
	if err == nil {
		n.stats.dialed.Add(1)
		return c, nil
	}
	if ended := ctx.Err(); ended != nil && err == context.Cause(ctx) && !errors.Is(err, ended) {
		err = fmt.Errorf("%w: %w", ended, err) // the caller may look for either
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.report.Elapsed = time.Since(start)
	d.report.Err = err
	e := d.report
	return nil, &e
}

// begin counts the dial among the node's procedures and runs it.
func (d *dial) begin(ctx context.Context) (*Conn, error) {
	living, err := d.node.begin()
	if err != nil {
		return nil, err
	}
	defer d.node.wg.Done()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	dialing, stop := context.WithCancelCause(ctx)
	defer stop(context.Canceled)
	defer context.AfterFunc(living, func() { stop(context.Cause(living)) })()
	d.ctx, d.living = dialing, living
	c, err := d.run()
	if err != nil && ctx.Err() == nil && living.Err() != nil {
		err = context.Cause(living) // whatever it was that failed first as the node ended
	}
	return c, err
}

// A dial is one attempt to connect. Its procedure is run; helpers that try
// things in parallel belong to its group and end with it.
type dial struct {
	node   *Node
	key    PublicKey
	cfg    DialConfig
	target Target
	ctx    context.Context // ends with the dial
	living context.Context // ends when the node can have no connections any more

	// The first message is the same through every relay: the server knows
	// repetitions by it.
	state noise.HandshakeState // after the first message
	first []byte
	open  bool // it says that we are open to the world, so the server comes to us
	link  *link
	relay relayChoice // ours; the server's wins

	lanTried chan struct{} // closed when the local network was tried; nil: it is not
	lanBegun time.Time

	mu      sync.Mutex
	early   *earlyPacket // a packet of the server that overtook its answer
	answer  *dialAnswer
	puncher *puncher // nil: none yet
	report  ConnectError
}

type earlyPacket struct {
	conn udp.Conn
	from netip.AddrPort
}

// A dialAnswer is the server's answer to our handshake and how it came.
type dialAnswer struct {
	relay   netip.AddrPort // who we asked
	relayed bool           // it is not the server itself
	server  netip.AddrPort // the server as the relay sees it
	client  netip.AddrPort // us as the relay sees us
	conn    udp.Conn       // the socket we asked on
	rtt     time.Duration
	payload noisePayload
	result  noise.Result
	seal    *punchSeal
}

// run makes the connection.
func (d *dial) run() (*Conn, error) {
	if err := d.introduce(); err != nil {
		return nil, err
	}
	answer, err := d.handshake()
	if err != nil {
		d.link.raw.Destroy(nil)
		return nil, err
	}
	d.node.known.put(d.key, answer)
	c, err := d.connect(answer)
	if err == nil && answer.payload.udx.follows && !d.cfg.pathOnly {
		c.link.canRejoin(d.key, d.cfg)
	}
	if err == nil && d.cfg.ReusableSocket && answer.payload.udx.reusable {
		d.node.reuse.put(d.key, c)
	}
	return c, err
}

// introduce makes the stream and the first message.
func (d *dial) introduce() (err error) {
	n := d.node
	if d.link, err = n.newLink(d.arrived); err != nil {
		return err
	}
	d.link.maxMessage = cmp.Or(d.cfg.MaxMessage, n.cfg.MaxMessage)
	fail := func(err error) error { d.link.raw.Destroy(nil); return err }
	p := noisePayload{
		version: payloadVersion, secretStream: 1,
		udx: &udxInfo{id: d.link.raw.ID(), keepsRelay: true, proves: !d.cfg.plain, pathOnly: d.cfg.pathOnly, reusable: d.cfg.ReusableSocket},
	}
	if open, ok := n.openAddr(); ok {
		d.open = true
		p.firewall = nat.Open
		p.addresses4 = append(p.addresses4, open)
	}
	if !d.cfg.NoLAN {
		p.addresses4 = append(p.addresses4, n.localAddrs.list(n)...)
	}
	if d.relay = pickRelay(d.cfg.RelayThrough); !d.relay.key.IsZero() {
		p.relayThrough = &relayThroughInfo{publicKey: d.relay.key, token: d.relay.token}
	}
	d.state, err = noise.Initialize(noise.Config{
		Pattern: noise.IK, Initiator: true, Prologue: nsPeerHandshake[:],
		Static: d.cfg.KeyPair, RemoteStatic: d.key,
	})
	if err != nil {
		return fail(err)
	}
	if d.first, err = d.state.WriteMessage(nil, p.append(nil)); err != nil {
		return fail(err)
	}
	return nil
}

// arrived is the stream's Accept hook.
func (d *dial) arrived(_ *udx.Stream, conn udp.Conn, from netip.AddrPort) bool {
	if !sendable(from) {
		return false
	}
	d.mu.Lock()
	answer := d.answer
	if answer == nil {
		d.early = &earlyPacket{conn, from}
	}
	d.mu.Unlock()
	if answer == nil {
		return true
	}
	how := arrived
	if d.expects(answer, from.Addr()) {
		how = expected
	}
	return d.link.offer(candidate{socketPath{conn, from}, d.node.kindOf(conn, from)}, how)
}

// expects reports whether the server may be at that host: where its relay sees
// it, where it is open, where it was punched at, or in our own network.
func (d *dial) expects(a *dialAnswer, host netip.Addr) bool {
	if host == a.server.Addr() || isPrivate(host) ||
		slices.ContainsFunc(a.payload.addresses4, func(x netip.AddrPort) bool { return x.Addr() == host }) {
		return true
	}
	d.mu.Lock()
	p := d.puncher
	d.mu.Unlock()
	return p != nil && p.knowsHost(host)
}

// handshakeStagger is how long the nodes asked may take before another one is
// asked too.
const handshakeStagger = 200 * time.Millisecond

// knownHeadStart is how long known nodes may take before others are looked for.
const knownHeadStart = 100 * time.Millisecond

// handshake finds nodes that know the peer and shakes hands through them, two
// at a time and one more each time that they take long, until one answer is
// good (spec §5.3).
func (d *dial) handshake() (*dialAnswer, error) {
	ctx, cancel := context.WithCancelCause(d.ctx)
	defer cancel(nil)
	answers := make(chan *dialAnswer, 1)
	slots := make(chan struct{}, 2)
	var wg sync.WaitGroup
	var once sync.Once
	var fatal error
	try := func(relay netip.AddrPort, conn udp.Conn) {
		a, err := d.attempt(ctx, relay, conn)
		if ctx.Err() != nil {
			return
		}
		d.mu.Lock()
		d.report.Handshakes = append(d.report.Handshakes, HandshakeAttempt{relay, err})
		d.mu.Unlock()
		var c *Cause
		switch {
		case err == nil:
			once.Do(func() { answers <- a; cancel(errAnswered) })
		case errors.As(err, &c):
			// The peer itself has spoken; nobody else will say otherwise.
			once.Do(func() { fatal = err; cancel(err) })
		}
	}
	if r, ok := d.node.reuse.get(d.node, d.key); ok && d.cfg.ReusableSocket {
		wg.Go(func() {
			try(r.peer, r.conn)
			if ctx.Err() == nil {
				d.node.reuse.forget(d.key)
			}
		})
		select { // a head start: it needs nobody else
		case <-ctx.Done():
		case <-time.After(handshakeStagger):
		}
	}
	known := d.knownRelays()
	if len(known) > 0 {
		wg.Go(func() {
			for _, relay := range known {
				wg.Go(func() { try(relay, nil) })
				select {
				case <-time.After(handshakeStagger):
				case <-ctx.Done():
					return
				}
			}
		})
	}
	if len(known) > 0 { // they will do, as a rule; the query is for when they do not
		select {
		case <-ctx.Done():
		case <-time.After(knownHeadStart):
		}
	}
	queryErr := d.find(ctx, known, func(relay netip.AddrPort) bool {
		d.mu.Lock()
		d.report.Found = true
		d.mu.Unlock()
		if slices.Contains(known, relay) {
			return true
		}
		free := func() {}
		select {
		case slots <- struct{}{}:
			free = func() { <-slots }
		case <-time.After(handshakeStagger):
		case <-ctx.Done():
			return false
		}
		wg.Go(func() {
			defer free()
			try(relay, nil)
		})
		return true
	})
	wg.Wait()
	select {
	case a := <-answers:
		d.link.setRemote(a.payload.udx, &a.result, a.rtt)
		d.mu.Lock()
		d.answer = a
		d.report.Answered = true
		d.mu.Unlock()
		return a, nil
	default:
	}
	d.mu.Lock()
	tried := len(d.report.Handshakes)
	d.mu.Unlock()
	switch {
	case d.ctx.Err() != nil:
		return nil, context.Cause(d.ctx)
	case fatal != nil:
		return nil, fatal
	case tried > 0:
		return nil, ErrPeerConnectionFailed
	case queryErr != nil && !errors.Is(queryErr, dhtrpc.ErrTooFewNodes):
		return nil, queryErr
	}
	return nil, ErrPeerNotFound
}

// knownRelays are the nodes to shake hands through before any is found: given
// ones, those of the last time, or the way to the peer that we keep ourselves.
func (d *dial) knownRelays() []netip.AddrPort {
	var own netip.AddrPort
	d.node.rpc.Do(func() { own, _ = d.node.router.routes.relay(time.Now(), d.target) })
	if own.IsValid() {
		return []netip.AddrPort{own}
	}
	known := d.cfg.Nodes
	if len(known) == 0 {
		known = d.node.known.get(d.key)
	}
	return slices.DeleteFunc(slices.Clone(known), func(a netip.AddrPort) bool { return !sendable(a) })
}

// find queries for nodes that hold the peer's announcement and yields each,
// until yield returns false or ctx ends.
func (d *dial) find(ctx context.Context, seeds []netip.AddrPort, yield func(netip.AddrPort) bool) error {
	q := d.node.rpc.Query(dhtrpc.Message{Command: cmdFindPeer, Target: (*dhtrpc.ID)(&d.target)}, dhtrpc.QueryOptions{Nodes: seeds, Retries: 3, EndsEarly: true})
	for r, err := range q.Replies(ctx) {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		d.mu.Lock()
		d.report.Asked++
		d.mu.Unlock()
		if len(r.Value) == 0 {
			continue
		}
		if _, err := parsePeerRecord(r.Value); err == nil && !yield(r.From) {
			return nil
		}
	}
	return nil
}

var (
	errAnswered     = errors.New("hyperdht: another relay's answer was taken")
	errForeignReply = errors.New("hyperdht: answered from another address")
	errNoRoute      = errors.New("hyperdht: knows no way to the peer")
)

// attempt shakes hands through one relay (spec §5.4), from conn or, if that is
// nil, from the socket that requests use.
func (d *dial) attempt(ctx context.Context, relay netip.AddrPort, conn udp.Conn) (*dialAnswer, error) {
	n := d.node
	if conn == nil {
		conn = n.rpc.Conn()
	}
	m := handshakeMessage{mode: fromClient, noise: d.first}
	r, err := n.relayedRequest(ctx, relay, dhtrpc.Message{Command: cmdPeerHandshake, Target: (*dhtrpc.ID)(&d.target), Value: m.append(nil)}, conn)
	if err != nil {
		return nil, err
	}
	if r.From != relay {
		return nil, errForeignReply
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	if r.Value == nil {
		return nil, errNoRoute
	}
	back, err := parseHandshakeMessage(r.Value)
	if err != nil || back.mode != reply {
		return nil, errBadMessage
	}
	state := d.state // a copy: a bad answer spoils nothing
	plain, err := state.ReadMessage(nil, back.noise)
	if err != nil {
		return nil, err
	}
	a := &dialAnswer{relay: relay, server: relay, client: r.To, conn: conn, rtt: r.RTT}
	if a.relayed = back.peer.IsValid(); a.relayed {
		a.server = back.peer
	}
	// From here on it is the peer itself who speaks.
	if a.payload, err = parseNoisePayload(plain); err != nil {
		return nil, ErrHandshakeInvalid
	}
	switch {
	case a.payload.version != payloadVersion:
		return nil, ErrServerIncompatible
	case a.payload.err == wireVersionMismatch:
		return nil, ErrServerIncompatible
	case a.payload.err != wireOK || a.payload.udx == nil:
		return nil, ErrServerError
	}
	if a.result, err = state.Split(); err != nil {
		return nil, ErrHandshakeInvalid
	}
	a.payload.udx.proves = a.payload.udx.proves && !d.cfg.plain
	a.seal = newPunchSeal(&a.result, a.payload.udx.proves)
	a.prune()
	return a, nil
}

// prune takes away what the server names that we would not send to: relays of
// its that are no public hosts, unless we have asked on a private network.
func (a *dialAnswer) prune() {
	if h := a.payload.holepunch; h != nil {
		h.relays = slices.DeleteFunc(h.relays, func(r relayInfo) bool {
			return !mayReach(a.relay, r.relay) || !sendable(r.peer)
		})
	}
	a.payload.relayAddresses = slices.DeleteFunc(a.payload.relayAddresses, func(x netip.AddrPort) bool {
		return !mayReach(a.relay, x)
	})
}

// Requests that a relay passes on, and whose answers it passes back, need four
// datagrams to arrive. They are repeated sooner than others, which are a second
// apart, and given up after six seconds.
const (
	relayedWait    = 150 * time.Millisecond // doubles
	relayedMaxWait = time.Second
	relayedRetries = 7
)

// relayedRequest makes such a request on a socket.
func (n *Node) relayedRequest(ctx context.Context, relay netip.AddrPort, m dhtrpc.Message, conn udp.Conn) (dhtrpc.Reply, error) {
	return n.rpc.Request(ctx, relay, m, dhtrpc.WithConn(conn), dhtrpc.WithRetries(relayedRetries), dhtrpc.WithBackoff(relayedWait, relayedMaxWait))
}

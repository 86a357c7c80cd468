package hyperdht

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/warren-dht/warren/nat"
)

// ListenConfig says how a listener treats those who connect. The zero value
// accepts everybody under the node's own key pair.
type ListenConfig struct {
	// KeyPair is the key that peers dial; nil is the node's.
	KeyPair *KeyPair

	// Allow, if not nil, is asked about everybody who connects: nil lets him
	// in, an error keeps him out. Whoever is kept out gets no answer at all. It
	// may wait until ctx ends, ten seconds later or with the listener, whose
	// Close waits for it. One that panics keeps out, and that is logged. (The
	// reference's "firewall" says the opposite: true keeps out.)
	Allow func(ctx context.Context, in Incoming) error
	// Holepunch, if not nil, is asked before a punch is answered with punches;
	// false, or a panic, aborts it. It must not wait.
	Holepunch func(PunchAttempt) bool
	// NoHolepunch never punches: peers reach us directly, over the local
	// network or through a relay.
	NoHolepunch bool
	// HideLocalAddresses does not tell peers our addresses on the local
	// network.
	HideLocalAddresses bool
	// RelayThrough lists blind relays through which peers can reach us at once,
	// while a direct path is being looked for; one is picked at random for each
	// connection.
	RelayThrough []PublicKey
	// KeepAlive is how long a connection may be silent before an empty message
	// keeps it alive; 0 is the node's setting, negative is never.
	KeepAlive time.Duration
	// MaxMessage is the largest message that connections accept, in bytes. Zero
	// means the node's [Config].MaxMessage.
	MaxMessage int
	// Backlog is how many connections wait for Accept before further ones are
	// dropped; 128.
	Backlog int
	// AllowRelay, if not nil, reports whether to connect to the blind relay that
	// a client names (Incoming.RelayThrough), so that it can be reached there:
	// the client may be a stranger, and the relay of its choice. Nil allows none.
	// It is asked after Allow, and not if RelayThrough lists relays of our own,
	// which are used instead. It must not wait; a panic refuses, and is logged.
	// The node connects to at most 16 such relays at once, and for clients of one
	// public /24 to 4 at once and a second. Without the relay the connection is
	// looked for in all other ways.
	AllowRelay func(in Incoming) bool
	// MaxConns bounds the connections of the listener: the open ones that were
	// accepted or wait for Accept, and those that are being made. Zero means
	// 4096; negative means no limit.
	MaxConns int
	// MaxPeerConns bounds those of one remote public key. Zero means 1024;
	// negative means no limit.
	MaxPeerConns int
	// ReusableSocket lets the next connections of a peer use the path of its
	// first one while it lasts, if the peer wants that too.
	ReusableSocket bool
	// AcceptUnproven delivers a connection of a peer that has not proved its key
	// yet. Only a peer that cannot prove itself at once (the reference) is
	// delivered so: its first message, or its keep-alive after 5 s, proves it. By
	// default Accept waits for that, up to 13 s, which delays protocols in which
	// the server speaks first. With AcceptUnproven, an attacker that recorded a
	// handshake of the peer may be at the other end; see Conn.Proven.
	AcceptUnproven bool
	// InsecureDatagrams lets Conn.Send and Conn.Receive use the reference's keys
	// with a peer that has no secret ones; see
	// [secretstream.DatagramsInsecure] for what that gives away. Without it they
	// fail with such a peer.
	InsecureDatagrams bool
	// Unannounced does not announce the key: only who knows this node's address
	// or one of the nodes it told can connect.
	Unannounced bool

	// plain makes us a peer that proves nothing, as the reference is, in tests.
	plain bool
}

// Defaults of [ListenConfig].
const (
	DefaultBacklog      = 128
	DefaultMaxConns     = 4096
	DefaultMaxPeerConns = 1024
)

// Incoming is what is known of somebody who connects, before he is let in. That
// he holds the key is proven when Accept returns the connection.
type Incoming struct {
	RemotePublicKey PublicKey
	// Addr is his address as the relay between, or we, see it.
	Addr netip.AddrPort
	// Relay is the DHT node that forwarded the handshake; invalid if he asked
	// us directly.
	Relay netip.AddrPort
	// Class is what he says about his own reachability, and Addresses where he
	// says he can be reached.
	Class     nat.Class
	Addresses []netip.AddrPort
	// RelayThrough is the blind relay that he names, zero if none. Whether it is
	// used is for [ListenConfig].AllowRelay to say.
	RelayThrough PublicKey
}

// A PunchAttempt is what a Holepunch function decides about.
type PunchAttempt struct {
	Local, Remote                   nat.Class
	LocalAddresses, RemoteAddresses []netip.AddrPort
}

// A Listener accepts connections to a public key. It is a [net.Listener], and
// it stays announced in the DHT until it is closed. Safe for concurrent use.
type Listener struct {
	node    *Node
	keyPair KeyPair
	cfg     ListenConfig

	announcer *announcer // nil if unannounced
	accepted  chan *Conn

	ctx    context.Context // ends with the listener
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	gone   chan struct{}

	mu         sync.Mutex
	closed     bool
	suspended  bool
	handshakes map[[32]byte]*serverHandshake // by the hash of the first message
	recent     []*serverHandshake            // those that have ended, oldest first
	slots      []*serverHandshake            // by handle
	escorts    int                           // connections for the sake of their path
	conns      int                           // open, or being made
	peerConns  map[PublicKey]int
}

var _ net.Listener = (*Listener)(nil)

// listensAs reports whether one of our own listeners has that key.
func (n *Node) listensAs(key PublicKey) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.listeners {
		if l.keyPair.Public == key {
			return true
		}
	}
	return false
}

// Listen accepts connections to a key from now on, and announces it. It returns
// when the first announcement is done or ctx has ended; in the latter case with
// an error and no listener. Peers that know nodes near us can connect before.
func (n *Node) Listen(ctx context.Context, cfg ListenConfig) (*Listener, error) {
	if _, err := n.begin(); err != nil {
		return nil, err
	}
	defer n.wg.Done()
	l := &Listener{
		node: n, keyPair: n.keyPair, cfg: cfg, gone: make(chan struct{}),
		handshakes: map[[32]byte]*serverHandshake{},
		peerConns:  map[PublicKey]int{},
	}
	if cfg.KeyPair != nil {
		l.keyPair = *cfg.KeyPair
	}
	if l.cfg.Backlog <= 0 {
		l.cfg.Backlog = DefaultBacklog
	}
	if l.cfg.MaxConns == 0 {
		l.cfg.MaxConns = DefaultMaxConns
	}
	if l.cfg.MaxPeerConns == 0 {
		l.cfg.MaxPeerConns = DefaultMaxPeerConns
	}
	switch {
	case cfg.KeepAlive == 0:
		l.cfg.KeepAlive = n.cfg.KeepAlive
	case cfg.KeepAlive < 0:
		l.cfg.KeepAlive = 0
	}
	l.accepted = make(chan *Conn, l.cfg.Backlog)
	if !cfg.Unannounced {
		l.announcer = newAnnouncer(n, l.keyPair)
	}
	l.ctx, l.cancel = context.WithCancelCause(n.ctx)
	if err := l.register(); err != nil {
		l.cancel(err)
		return nil, err
	}
	if !l.cfg.HideLocalAddresses {
		n.wg.Go(func() { n.localAddrs.tested(l.ctx, n) }) // before handshakes need it
	}
	if err := l.announce(ctx); err != nil {
		forced, cancel := context.WithCancel(context.Background())
		cancel()
		l.Shutdown(forced)
		return nil, err
	}
	return l, nil
}

// register makes the listener its node's: from now on it may be closed with the
// node, and hears of handshakes.
func (l *Listener) register() error {
	n := l.node
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	ok := false
	n.rpc.Do(func() { ok = n.router.routes.listen(l.keyPair.Public, l) })
	if !ok {
		return ErrKeyPairInUse
	}
	n.listeners[l] = struct{}{}
	return nil
}

// announce makes the first announcement and keeps it up from then on. While the
// node is suspended there is none; it is made when the node resumes.
func (l *Listener) announce(ctx context.Context) error {
	if l.announcer == nil {
		return nil
	}
	l.mu.Lock()
	running := !l.closed && !l.suspended
	if running {
		l.announcer.resume()
	}
	l.mu.Unlock()
	if !running {
		return context.Cause(l.ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })()
	if err := l.announcer.first(ctx); err != nil {
		return err
	}
	return context.Cause(l.ctx)
}

// Accept returns the next connection whose peer has proved its key: its first
// message was opened with the session's keys. (See
// [ListenConfig].AcceptUnproven for the exception.) It returns net.ErrClosed
// after Close.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptConn(context.Background())
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptConn is Accept with a context and the full type.
func (l *Listener) AcceptConn(ctx context.Context) (*Conn, error) {
	if l.ctx.Err() != nil {
		return nil, &net.OpError{Op: "accept", Net: "hyperdht", Addr: l.Addr(), Err: net.ErrClosed}
	}
	select {
	case c := <-l.accepted:
		return c, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-l.ctx.Done():
		return nil, &net.OpError{Op: "accept", Net: "hyperdht", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

// Addr is the public key that peers dial, as a [net.Addr] whose network is
// "hyperdht".
func (l *Listener) Addr() net.Addr { return Addr{l.keyPair.Public} }

// PublicKey is the key that peers dial.
func (l *Listener) PublicKey() PublicKey { return l.keyPair.Public }

// PublicAddr is the node's public address as far as it is known; its port is 0
// behind a NAT that chooses random ones.
func (l *Listener) PublicAddr() netip.AddrPort { return l.node.rpc.PublicAddr() }

// Relays are the DHT nodes through which peers find us now: our own address
// first if we are open to the world.
func (l *Listener) Relays() []netip.AddrPort {
	if l.announcer == nil {
		return nil
	}
	return l.announcer.Relays()
}

// Refresh announces the key anew soon, in the background.
func (l *Listener) Refresh() {
	if l.announcer != nil {
		l.announcer.refresh()
	}
}

// Close stops listening, unannounces for at most a second, and returns when
// nothing is left of the listener. Accepted connections live on, those not
// accepted yet are closed.
func (l *Listener) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return l.Shutdown(ctx)
}

// Shutdown is Close with a context that bounds the unannouncement; one that has
// ended makes it a forced close that tells nobody.
func (l *Listener) Shutdown(ctx context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		<-l.gone
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	l.cancel(ErrClosed)
	l.dropHandshakes(ErrClosed)
	if l.announcer != nil {
		l.announcer.stop(ctx)
	}
	l.wg.Wait()
	for {
		select {
		case c := <-l.accepted:
			c.Close()
			continue
		default:
		}
		break
	}
	l.mu.Lock()
	for len(l.recent) > 0 {
		l.clearOldest()
	}
	l.mu.Unlock()
	// Only now may another listener have the key: what we unannounce would be
	// missing from what it announces.
	n := l.node
	n.mu.Lock()
	n.rpc.Do(func() { n.router.routes.unlisten(l.keyPair.Public) })
	delete(n.listeners, l)
	n.mu.Unlock()
	close(l.gone)
	return nil
}

// An Addr is a public key as a [net.Addr].
type Addr struct{ Key PublicKey }

// Network is "hyperdht".
func (Addr) Network() string { return "hyperdht" }

// String is the key in hex.
func (a Addr) String() string { return a.Key.String() }

// deliver hands a connection to Accept, or closes it if too many wait for that.
func (l *Listener) deliver(c *Conn) {
	l.mu.Lock()
	tooMany := l.closed
	if !tooMany {
		select {
		case l.accepted <- c:
		default:
			tooMany = true
		}
	}
	l.mu.Unlock()
	if tooMany {
		l.node.stats.limited.Add(1)
		c.link.raw.Destroy(nil)
		return
	}
	l.node.stats.accepted.Add(1)
}

// reserve counts a connection with a peer, from before it is made until it has
// ended, and reports whether there is room for it.
func (l *Listener) reserve(key PublicKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cfg.MaxConns >= 0 && l.conns >= l.cfg.MaxConns || l.cfg.MaxPeerConns >= 0 && l.peerConns[key] >= l.cfg.MaxPeerConns {
		return false
	}
	l.conns++
	l.peerConns[key]++
	return true
}

// unreserve undoes reserve.
func (l *Listener) unreserve(key PublicKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns--
	if l.peerConns[key]--; l.peerConns[key] == 0 {
		delete(l.peerConns, key)
	}
}

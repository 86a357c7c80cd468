package hyperdht

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/udp"
)

// DefaultPort is the server socket's port that nodes try first; the four after
// it are tried too.
const DefaultPort = 49737

// DefaultBootstrap are the public network's bootstrap nodes, as the reference
// lists them.
var DefaultBootstrap = []string{
	"88.99.3.86@node1.hyperdht.org:49737",
	"142.93.90.113@node2.hyperdht.org:49737",
	"138.68.147.8@node3.hyperdht.org:49737",
}

// NoBootstrap is the bootstrap list of an isolated network's first node.
var NoBootstrap = []string{}

// Defaults of ours and the reference's (spec §2.4).
const (
	DefaultKeepAlive           = 5 * time.Second
	DefaultRandomPunchInterval = 20 * time.Second
	DefaultMaxHandshakes       = 256
	DefaultMaxSourceHandshakes = 64
	DefaultMaxSockets          = 4096
)

// Config says how a node is made. Its zero value is a member of the public
// network with a key pair of its own.
type Config struct {
	// KeyPair is who the node is when it dials, and when it listens without
	// another key; nil makes one up.
	KeyPair *KeyPair

	// Network is where sockets come from; nil is this machine.
	Network udp.Network
	// Host is the IPv4 address that all sockets bind; the zero Addr is 0.0.0.0.
	Host netip.Addr
	// Port is the server socket's port; 0 is [DefaultPort]. If it is taken, the
	// four after it are tried, then any, unless ExactPort is set. AnyPort lets
	// the system choose at once.
	Port      uint16
	ExactPort bool
	AnyPort   bool

	// Bootstrap lists nodes to begin with: "host:port" or "ip@host:port". nil is
	// the public network ([DefaultBootstrap]), an empty list none.
	Bootstrap []string
	// Nodes are known nodes, the best first, from an earlier run.
	Nodes []netip.AddrPort
	// Ephemeral says whether the node may become persistent: have an id, be
	// listed by others, store for them.
	Ephemeral dhtrpc.EphemeralMode
	// Firewalled overrides what the node finds out about itself; nil tests it.
	Firewalled *bool
	// Public is the node's public address if it is known beforehand; see
	// [Bootstrapper].
	Public netip.AddrPort
	// RPC, if not nil, may change further settings of the RPC node beneath,
	// other than those above and its handlers.
	RPC func(*dhtrpc.Config)

	// Store keeps what others stored here, and the known nodes, over restarts;
	// nil keeps it in memory. It is the node's until Close, which does not
	// close it.
	Store Store
	// Limits bound what the node stores for others.
	Limits StoreLimits

	// KeepAlive is how long a connection may be silent before an empty message
	// keeps NATs' mappings alive; 0 is 5 s, negative is never.
	KeepAlive time.Duration
	// MaxMessage is the largest message that connections accept, in bytes, unless
	// [ListenConfig] or [DialConfig] says otherwise; see [secretstream.Config]. A
	// peer can make a connection hold that much. Zero means 1 MiB.
	MaxMessage int
	// RandomPunchInterval is the pause after a punch that sends thousands of
	// datagrams; 0 is 20 s, negative none.
	RandomPunchInterval time.Duration
	// DeferRandomPunch makes the node wait that long after its start, too.
	DeferRandomPunch bool
	// MaxHandshakes bounds the incoming connections that are being made, over
	// all listeners. Zero means 256. Beyond it a quarter as many may still be at
	// work that had to give way to others. MaxSourceHandshakes bounds those that
	// come directly from one public /24 or through one relay. Zero means 64.
	MaxHandshakes, MaxSourceHandshakes int

	// MaxSockets bounds the extra sockets that the node has open: those of hole
	// punches in progress, of which there are 480 at most, and those that carry
	// connections that were punched. Zero means 4096; negative means no limit.
	MaxSockets int

	// Logger receives what an operator may want to know; nil discards it.
	Logger *slog.Logger
	// Rand is the source of luck of the RPC node and its storage; nil is one
	// that cannot be predicted. Keys never come from it.
	Rand rand.Source
}

func (c Config) settled() (Config, error) {
	if c.KeyPair == nil {
		k := GenerateKeyPair()
		c.KeyPair = &k
	}
	if c.Network == nil {
		c.Network = udp.Default
	}
	if !c.Host.IsValid() {
		c.Host = netip.IPv4Unspecified()
	}
	if c.Port == 0 && !c.AnyPort {
		if c.ExactPort {
			return c, errors.New("hyperdht: Config.ExactPort: needs a Port")
		}
		c.Port = DefaultPort
	}
	if c.AnyPort && c.ExactPort {
		return c, errors.New("hyperdht: Config.AnyPort: contradicts ExactPort")
	}
	if c.AnyPort {
		c.Port = 0
	}
	if c.Bootstrap == nil {
		c.Bootstrap = DefaultBootstrap
	}
	switch {
	case c.KeepAlive == 0:
		c.KeepAlive = DefaultKeepAlive
	case c.KeepAlive < 0:
		c.KeepAlive = 0
	}
	switch {
	case c.RandomPunchInterval == 0:
		c.RandomPunchInterval = DefaultRandomPunchInterval
	case c.RandomPunchInterval < 0:
		c.RandomPunchInterval = 0
	}
	for _, f := range []struct {
		name string
		n    *int
		def  int
	}{{"MaxHandshakes", &c.MaxHandshakes, DefaultMaxHandshakes}, {"MaxSourceHandshakes", &c.MaxSourceHandshakes, DefaultMaxSourceHandshakes}} {
		if *f.n < 0 {
			return c, fmt.Errorf("hyperdht: Config.%s: %d is negative", f.name, *f.n)
		}
		if *f.n == 0 {
			*f.n = f.def
		}
	}
	if c.MaxSockets == 0 {
		c.MaxSockets = DefaultMaxSockets
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// rpc is the configuration of the RPC node beneath.
func (c *Config) rpc() dhtrpc.Config {
	r := dhtrpc.Config{
		Network: c.Network, Host: c.Host, Port: c.Port, ExactPort: c.ExactPort,
		Bootstrap: c.Bootstrap, Nodes: c.Nodes, Ephemeral: c.Ephemeral,
		Firewalled: c.Firewalled, Public: c.Public, Logger: c.Logger, Rand: c.Rand,
	}
	if c.RPC != nil {
		c.RPC(&r)
	}
	return r
}

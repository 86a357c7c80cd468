package dhtrpc

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/warren-dht/warren/kad"
	"github.com/warren-dht/warren/udp"
)

// Constants of the protocol (docs/spec/dht-rpc.md §6.1).
const (
	// K is the size of a bucket, of a list of closer nodes and of the set of
	// closest nodes that a query commits to.
	K = 20
	// MaxMessage is the largest datagram that peers read.
	MaxMessage = 2048
	// comfortableSize is what every path carries; longer replies to those who may
	// have them do without closer nodes (docs/spec/dht-rpc.md §1.6).
	comfortableSize = 1400
)

// Defaults of ours.
const (
	DefaultConcurrency    = 10
	DefaultMaxWindow      = 80
	DefaultMaxPingDelay   = 10 * time.Second
	DefaultDownHints      = 50
	DefaultMaxReply       = 1232
	DefaultPortRange      = 5
	backgroundConcurrency = 8 // the share of Concurrency that upkeep may use
)

// An EphemeralMode says whether a node may become persistent: give itself the
// id that follows from its public address, and be listed by others.
type EphemeralMode int

const (
	// Auto: a node that was reachable at one address for twenty minutes becomes
	// persistent.
	Auto EphemeralMode = iota
	// Never: the node becomes persistent while it bootstraps, if it learns its
	// public address and is reachable there. If not, it goes on as with Auto.
	Never
	// Always: the node never becomes persistent.
	Always
)

// Limits bound what others can make a node hold or do. A limit of 0 is the
// default, a negative one is none. Loopback, private and other addresses that
// are not public are exempt, so that test and home networks work.
type Limits struct {
	// PerBucket and PerTable are the nodes of one /24 network that a bucket and
	// the whole table take. Default: 2 and 10. While the table knows fewer than
	// eight other networks it takes four times as many, and gives them up when
	// it knows more.
	PerBucket, PerTable int
	// PerQuery is the share of one /24 network in the 20 closest nodes of a
	// query. Others of that network are asked, and are among the closest, only
	// if fewer than 20 nodes answer otherwise. Default: 2.
	PerQuery int
	// DelayedPings are the delayed pings that wait to be answered at most, and
	// DelayedPingsPerHost those of one address; 1,024 and 16.
	DelayedPings, DelayedPingsPerHost int
	// DownHintsPerHost are the hints of one address that are followed within
	// five seconds; 16.
	DownHintsPerHost int
	// Verifications are the pings under way to strangers that say they are
	// persistent nodes; 32.
	Verifications int
	// Votes are the opinions of one /24 network about the node's public address
	// that count, among the last sixteen and within half an hour; 3.
	Votes int
	// UnprovenBytes bounds, in bytes a second for one /24 network, how much of
	// the replies goes beyond four times their requests, to sources that have
	// not shown with a token that they receive there. Headers do not count.
	// Eight times as much may go at once. A reply above it does without closer
	// nodes; if it still is more than four times its request, Reply fails with
	// ErrTooLarge. Default: 65,536.
	UnprovenBytes int
}

func (l Limits) settled() Limits {
	def := func(n *int, v int) {
		if *n == 0 {
			*n = v
		} else if *n < 0 {
			*n = noLimit
		}
	}
	def(&l.PerBucket, 2)
	def(&l.PerTable, 10)
	def(&l.PerQuery, 2)
	def(&l.DelayedPings, 1024)
	def(&l.DelayedPingsPerHost, 16)
	def(&l.DownHintsPerHost, 16)
	def(&l.Verifications, 32)
	def(&l.Votes, 3)
	def(&l.UnprovenBytes, 64<<10)
	return l
}

// table is the settled limits as the table wants them.
func (l Limits) table() kad.Limits {
	return kad.Limits{PerBucket: finite(l.PerBucket), PerTable: finite(l.PerTable), Alone: 4}
}

// noLimit is what a limit that is none is settled as.
const noLimit = 1 << 30

// finite is 0 for no limit, for those who understand that so.
func finite(limit int) int {
	if limit == noLimit {
		return 0
	}
	return limit
}

// Config says how a node is made. Its zero value is an isolated node on ports
// that the system chooses.
type Config struct {
	// Network is where sockets come from; nil is this machine.
	Network udp.Network

	// Host is the IPv4 address that both sockets bind; the zero Addr is 0.0.0.0.
	Host netip.Addr
	// Port is the server socket's port. Ports up to PortEnd, exclusive, are
	// tried in order; PortEnd 0 is Port+5. If none is free, or Port is 0, the
	// system chooses, unless ExactPort is set: then only Port is tried.
	Port, PortEnd uint16
	ExactPort     bool

	// Bootstrap lists nodes to begin with: "host:port", or "ip@host:port",
	// where ip is tried before the name is resolved. Empty: none.
	Bootstrap []string
	// Nodes are known nodes, the best first, as [Node.Nodes] returned them
	// earlier: with some of them alive no bootstrap node is needed.
	Nodes []netip.AddrPort

	// Ephemeral says whether the node may become persistent.
	Ephemeral EphemeralMode
	// Firewalled overrides what the node finds out about itself: false is known
	// to be reachable. nil: it starts as true and is tested.
	Firewalled *bool
	// NoQuickFirewall leaves out the short reachability test while the node
	// bootstraps.
	NoQuickFirewall bool
	// Public is the node's public address if it is known beforehand, as a
	// bootstrap node's is; see [Bootstrapper].
	Public netip.AddrPort

	// Handler serves the application's commands. nil: every one is unknown.
	Handler Handler
	// Before are asked before the node for the datagrams of its own two
	// sockets.
	Before []udp.Handler

	// Filter, if not nil, says which nodes the table and queries may use. It
	// runs under the node's lock: it must be quick and must not call the node.
	Filter func(netip.AddrPort) bool
	// Concurrency is the requests a query has under way; 10.
	Concurrency int
	// MaxWindow bounds the requests transmitted in 750 ms; 80. Further ones
	// wait.
	MaxWindow int
	// MaxPingDelay bounds the delayed pings sent and answered; 10 s.
	MaxPingDelay time.Duration
	// DownHints is how many hints about dead nodes are sent in five seconds;
	// 50. Negative: unlimited.
	DownHints int
	// NoDownHints sends none.
	NoDownHints bool
	// MaxReply is the largest reply, in bytes, to a requester that has not
	// shown with a token that it is where it says; 1,232.
	MaxReply int
	// Limits bound what others can make the node hold or do.
	Limits Limits
	// AdaptiveTimeout, if not nil, lets requests wait as long as measured round
	// trips suggest instead of one second.
	AdaptiveTimeout *AdaptiveTimeout

	// Resolve looks up the IPv4 addresses of a bootstrap node's name; nil asks
	// the system.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Logger receives what an operator may want to know; nil discards it.
	Logger *slog.Logger
	// Rand is the source of luck: transaction ids, the secrets of tokens, random
	// targets, jitter. nil is one that cannot be predicted; any other is for tests.
	// The node is its only user from now on.
	Rand rand.Source
}

// settled returns the configuration with all defaults filled in, or an error
// that begins with the name of the field that makes no sense.
func (c Config) settled() (Config, []bootstrapNode, error) {
	bad := func(field, format string, args ...any) (Config, []bootstrapNode, error) {
		return c, nil, fmt.Errorf("dhtrpc: Config.%s: %w", field, fmt.Errorf(format, args...))
	}
	if c.Network == nil {
		c.Network = udp.Default
	}
	if !c.Host.IsValid() {
		c.Host = netip.IPv4Unspecified()
	}
	if c.Host = c.Host.Unmap(); !c.Host.Is4() || c.Host.IsMulticast() {
		return bad("Host", "%v cannot be bound: want an IPv4 address", c.Host)
	}
	if c.PortEnd != 0 && c.PortEnd <= c.Port {
		return bad("PortEnd", "%d does not lie above Port %d", c.PortEnd, c.Port)
	}
	if c.ExactPort && c.Port == 0 {
		return bad("ExactPort", "needs a Port")
	}
	boot := make([]bootstrapNode, 0, len(c.Bootstrap))
	for i, s := range c.Bootstrap {
		b, err := parseBootstrap(s)
		if err != nil {
			return bad(fmt.Sprintf("Bootstrap[%d]", i), "%q: %w", s, err)
		}
		boot = append(boot, b)
	}
	for i, a := range c.Nodes {
		if !addressable(a) {
			return bad(fmt.Sprintf("Nodes[%d]", i), "%v: %w", a, ErrBadAddress)
		}
	}
	if c.Ephemeral < Auto || c.Ephemeral > Always {
		return bad("Ephemeral", "unknown mode %d", c.Ephemeral)
	}
	if c.Public.IsValid() && !usable(c.Public) {
		return bad("Public", "%v: %w", c.Public, ErrBadAddress)
	}
	for _, f := range []struct {
		name string
		n    *int
		def  int
	}{{"Concurrency", &c.Concurrency, DefaultConcurrency}, {"MaxWindow", &c.MaxWindow, DefaultMaxWindow}} {
		if *f.n < 0 {
			return bad(f.name, "%d is negative", *f.n)
		}
		if *f.n == 0 {
			*f.n = f.def
		}
	}
	if c.MaxPingDelay < 0 {
		return bad("MaxPingDelay", "%v is negative", c.MaxPingDelay)
	}
	if c.MaxPingDelay.Milliseconds() > math.MaxUint32 {
		return bad("MaxPingDelay", "%v is above 2^32-1 ms", c.MaxPingDelay)
	}
	if c.MaxPingDelay == 0 {
		c.MaxPingDelay = DefaultMaxPingDelay
	}
	if c.DownHints == 0 {
		c.DownHints = DefaultDownHints
	}
	if c.MaxReply == 0 {
		c.MaxReply = DefaultMaxReply
	}
	if c.MaxReply < 163 || c.MaxReply > MaxMessage {
		return bad("MaxReply", "%d lies outside of 163 to %d bytes", c.MaxReply, MaxMessage)
	}
	if a := c.AdaptiveTimeout; a != nil {
		s := a.settled()
		if s.Min < 0 || s.Max < s.Min || s.Size < 0 || s.MaxAge < 0 {
			return bad("AdaptiveTimeout", "negative, or Max below Min")
		}
		for _, d := range s.Fallback {
			if d <= 0 {
				return bad("AdaptiveTimeout.Fallback", "%v is not positive", d)
			}
		}
	}
	c.Limits = c.Limits.settled()
	if c.Resolve == nil {
		c.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Rand == nil {
		var seed [32]byte
		crand.Read(seed[:])
		c.Rand = rand.NewChaCha8(seed)
	}
	return c, boot, nil
}

// A bootstrapNode is a parsed entry of Config.Bootstrap.
type bootstrapNode struct {
	suggested netip.Addr // tried before the name, if valid
	host      string
	port      uint16
}

var errBootstrapForm = errors.New("want host:port or ip@host:port")

// parseBootstrap reads "host:port" or "ip@host:port" (docs/spec/dht-rpc.md §8.2).
func parseBootstrap(s string) (b bootstrapNode, err error) {
	if ip, rest, ok := strings.Cut(s, "@"); ok {
		if b.suggested, err = netip.ParseAddr(ip); err != nil || !b.suggested.Is4() {
			return b, errBootstrapForm
		}
		s = rest
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return b, errBootstrapForm
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return b, fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	if ip, err := netip.ParseAddr(host); err == nil && !ip.Is4() {
		return b, ErrBadAddress
	}
	b.host, b.port = host, uint16(n)
	return b, nil
}

// addressable reports whether messages can be sent to a and name it.
func addressable(a netip.AddrPort) bool { return a.Addr().Is4() && a.Port() != 0 }

// usable reports whether a that others named may be asked: the reference asks
// port 0, 0.0.0.0/8, multicast and broadcast addresses too, in vain
// (docs/spec/dht-rpc.md §12).
func usable(a netip.AddrPort) bool {
	if !addressable(a) {
		return false
	}
	ip := a.Addr().As4()
	return ip[0] != 0 && ip[0] < 224
}

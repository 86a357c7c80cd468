package mainline

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/warren-dht/warren/udp"
)

// Routers are the public network's bootstrap nodes.
var Routers = []string{
	"router.bittorrent.com:6881",
	"router.utorrent.com:6881",
	"dht.transmissionbt.com:6881",
	"dht.libtorrent.org:25401",
	"dht.aelitis.com:6881",
	"router.silotis.us:6881",
}

// Defaults of ours, where Config leaves a field at zero.
const (
	DefaultConcurrency = 64
	DefaultAlpha       = 4
	DefaultPeerAge     = 45 * time.Minute // announces are repeated every 15 to 30
	DefaultItemAge     = 2 * time.Hour    // BEP 44
	DefaultMaxPeers    = 50000
	DefaultMaxItems    = 10000
	DefaultPerSource   = 1000
	DefaultPerNetwork  = 4000
	DefaultQueryRate   = 64 // a second and source
	DefaultSendRate    = 2  // a second and address
)

// Tuning that Config does not offer.
const (
	burst        = 4    // times QueryRate
	sendBurst    = 12   // times SendRate: with it 44 in ten seconds; libtorrent bans at 50
	maxTokens    = 1000 // targets whose tokens are remembered
	tokenAge     = 5 * time.Minute
	expireEvery  = time.Minute
	refreshPause = 10 * time.Second // between two lookups of upkeep
)

// Config says how a node is made. Its zero value is a node of the public
// network on a port that the system chooses. The comments name what
// bittorrent-dht calls an option, where it has it.
type Config struct {
	// Network is where sockets come from; nil is this machine.
	Network udp.Network
	// Addrs are what to bind, a socket each; none is 0.0.0.0:0. IPv4 and IPv6
	// are two networks (BEP 32). Several addresses of one family make the node
	// several nodes of that network (BEP 45); they must lie in different
	// networks to be of use.
	Addrs []netip.AddrPort
	// Others are offered the datagrams that are not of the DHT, so that it can
	// share its sockets, see [Node.Conn]. uTP's never begin with 'd'.
	Others []udp.Handler

	// ID is the first socket's id (nodeId); the zero ID is one that belongs to
	// the public address as soon as that is known (BEP 42), and random until
	// then.
	ID ID
	// Bootstrap lists the nodes to begin with, as "host:port" (bootstrap). nil
	// is [Routers]; empty is none, as is NoBootstrap.
	Bootstrap   []string
	NoBootstrap bool
	// State is what [Node.State] returned earlier: an id, nodes to begin with,
	// items to hold.
	State *State

	// Host, if valid, makes the node keep its own announces, as peers with this
	// address (host).
	Host netip.Addr
	// Concurrency is how many queries of lookups, announces, puts and gets may
	// be in flight, all together; 64 (concurrency, there 16).
	Concurrency int
	// Alpha is how many of those one lookup begins with; 4. Each that is not
	// answered within a second allows one more.
	Alpha int
	// Hash makes targets; nil is SHA-1. The length of what it returns, 20 or 32
	// bytes, is that of all ids in this network (hash).
	Hash Hash
	// Verify checks signatures; nil is Ed25519 (verify).
	Verify Verify
	// BucketAge is how long a node is good after it was heard from, and a
	// bucket may stay unchanged; 15 minutes (timeBucketOutdated).
	BucketAge time.Duration
	// PeerAge is how long an announced peer is kept; 45 minutes (maxAge).
	// Negative: for ever.
	PeerAge time.Duration
	// ItemAge is how long an item is kept after it was last put; two hours.
	ItemAge time.Duration
	// MaxPeers and MaxItems bound what is kept for others; 50,000 of each
	// family, and 10,000 (maxPeers, maxValues). An item takes at most 1.8 KB of
	// memory, a peer 600 bytes.
	MaxPeers, MaxItems int
	// PerSource is how many peers of a family, and how many items, one public
	// source (an IPv4 address, an IPv6 /64) may have here: it loses its own
	// oldest then. Zero means 1,000; negative means no limit.
	PerSource int
	// PerNetwork is the same for all sources of a public IPv4 /24 or IPv6 /56
	// together: the one of them that holds most loses its oldest. Zero means
	// 4,000; negative means no limit.
	PerNetwork int

	// ReadOnly makes a node that asks and does not answer (BEP 43), as behind a
	// NAT that lets nothing in, or where battery counts.
	ReadOnly bool
	// RequireSecureIDs lets lookups count, and things be stored at, only nodes
	// whose id belongs to their address (BEP 42).
	RequireSecureIDs bool
	// QueryRate bounds the queries of one public source (an IPv4 address, an
	// IPv6 /64) that are answered in a second; 64, four times that in a burst.
	// Negative: unlimited.
	QueryRate int
	// SendRate bounds the queries sent to one public address in a second; 2,
	// twelve times that in a burst. What is above waits. Negative: unlimited.
	SendRate int

	// Store, if not nil, remembers what is kept for others beyond the node's
	// life. The node does not close it.
	Store Store

	// Resolve looks up the addresses of a bootstrap node's name; nil asks the
	// system.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Rand is the source of luck: ids, transaction ids, samples. nil is one that
	// cannot be predicted. The node is its only user from now on.
	Rand rand.Source
}

// settled returns the configuration with all defaults filled in, or an error
// that begins with the name of the field that makes no sense.
func (c Config) settled() (Config, error) {
	bad := func(field, format string, args ...any) (Config, error) {
		return c, fmt.Errorf("mainline: Config.%s: %w", field, fmt.Errorf(format, args...))
	}
	if c.Network == nil {
		c.Network = udp.Default
	}
	if len(c.Addrs) == 0 {
		c.Addrs = []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), 0)}
	}
	c.Addrs = slices.Clone(c.Addrs)
	for i, a := range c.Addrs {
		if a.Addr().IsMulticast() {
			return bad(fmt.Sprintf("Addrs[%d]", i), "%v cannot be bound", a)
		}
		if !a.Addr().IsValid() {
			a = netip.AddrPortFrom(netip.IPv4Unspecified(), a.Port())
		}
		c.Addrs[i] = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	if c.Hash == nil {
		c.Hash = hashSHA1
	}
	if n := len(c.Hash(nil)); n != shortID && n != longID {
		return bad("Hash", "it returns %d bytes, not 20 or 32", n)
	} else if !c.ID.IsZero() && int(c.ID.n) != n {
		return bad("ID", "it has %d bytes, the hash has %d", c.ID.n, n)
	}
	if c.Verify == nil {
		c.Verify = verifyEd25519
	}
	switch {
	case c.NoBootstrap:
		c.Bootstrap = []string{}
	case c.Bootstrap == nil:
		c.Bootstrap = Routers
	}
	for i, s := range c.Bootstrap {
		if _, _, err := splitHostPort(s); err != nil {
			return bad(fmt.Sprintf("Bootstrap[%d]", i), "%q: %w", s, err)
		}
	}
	if c.Host.IsValid() && (c.Host.IsUnspecified() || c.Host.IsMulticast()) {
		return bad("Host", "%v is no peer's address", c.Host)
	}
	c.Host = c.Host.Unmap()
	for _, f := range []struct {
		name string
		n    *int
		def  int
	}{
		{"Concurrency", &c.Concurrency, DefaultConcurrency},
		{"Alpha", &c.Alpha, DefaultAlpha},
		{"MaxPeers", &c.MaxPeers, DefaultMaxPeers},
		{"MaxItems", &c.MaxItems, DefaultMaxItems},
	} {
		if *f.n < 0 {
			return bad(f.name, "%d is negative", *f.n)
		}
		if *f.n == 0 {
			*f.n = f.def
		}
	}
	if c.PerSource == 0 {
		c.PerSource = DefaultPerSource
	}
	if c.PerNetwork == 0 {
		c.PerNetwork = DefaultPerNetwork
	}
	c.Alpha = min(c.Alpha, c.Concurrency, maxAlpha)
	if c.BucketAge < 0 {
		return bad("BucketAge", "%v is negative", c.BucketAge)
	}
	if c.BucketAge == 0 {
		c.BucketAge = defaultBucketAge
	}
	if c.PeerAge == 0 {
		c.PeerAge = DefaultPeerAge
	}
	if c.ItemAge == 0 {
		c.ItemAge = DefaultItemAge
	}
	c.PeerAge, c.ItemAge = max(c.PeerAge, 0), max(c.ItemAge, 0)
	c.PerSource, c.PerNetwork = max(c.PerSource, 0), max(c.PerNetwork, 0) // 0 is no limit now
	if c.QueryRate == 0 {
		c.QueryRate = DefaultQueryRate
	}
	if c.SendRate == 0 {
		c.SendRate = DefaultSendRate
	}
	if c.Resolve == nil {
		c.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if c.Rand == nil {
		var seed [32]byte
		crand.Read(seed[:])
		c.Rand = rand.NewChaCha8(seed)
	}
	return c, nil
}

func splitHostPort(s string) (host string, port uint16, err error) {
	host, digits, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return "", 0, errors.New("want host:port")
	}
	p, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || p == 0 {
		return "", 0, errors.New("the port is not a number from 1 to 65535")
	}
	return host, uint16(p), nil
}

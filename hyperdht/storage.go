package hyperdht

import (
	"cmp"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/internal/keep"
	"github.com/warren-dht/warren/internal/sodium"
	"github.com/warren-dht/warren/kad"
)

// Bounds of what a storing node keeps, by default.
// docs/spec/hyperdht-records.md §8. The reference keeps up to twice as much, in
// two generations; here an entry has an age of its own.
const (
	// DefaultStoreEntries is how many announced peers, routes, bumps and
	// refresh chains a node keeps at most, of each.
	DefaultStoreEntries = 65536
	// DefaultStoreRecords is how many mutable and immutable records a node
	// keeps at most, of each.
	DefaultStoreRecords = 65536
	// DefaultRecordBytes is how many bytes the mutable records of a node have
	// at most, all together, and its immutable ones.
	DefaultRecordBytes = 32 << 20
	// DefaultPerSource is how many entries of a kind one public IPv4 address
	// may have at a node.
	DefaultPerSource = 4096
	// DefaultPerNetwork is how many entries of a kind all addresses of one
	// public IPv4 /24 may have at a node, together.
	DefaultPerNetwork = 16384
	// DefaultPeersPerTopic is how many announced peers one topic has at most.
	DefaultPeersPerTopic = 4096
	// DefaultPeerAge is how long an announcement is kept.
	DefaultPeerAge = 20 * time.Minute
	// DefaultRecordAge is how long a mutable or immutable record is kept after
	// it was last put or asked for.
	DefaultRecordAge = 48 * time.Hour
	// MaxStoredValue is the longest value that a node stores, in bytes: what
	// fits into a request of 2,048 bytes.
	MaxStoredValue = 1970
)

const (
	// maxBumpAhead is how far in the future a bump may be.
	maxBumpAhead = time.Minute
	// youngPart: an announced peer is not replaced by a newer announcement of
	// the same key before this part of its age has passed, 800 s.
	// docs/spec/hyperdht-records.md §5, ANNOUNCE, 4.
	youngPart = 2.0 / 3
	// renewPart: a record that is read is renewed when this part of its age has
	// passed, so that popular ones do not expire.
	renewPart = 1.0 / 16
)

// Checking a signature is the most expensive thing that a stranger can ask for,
// 30 to 50 µs. An address from which so many did not verify is not listened to for a
// while, as far as signatures are concerned. Addresses that are not public are
// exempt, so that test and home networks work.
const (
	maxForgeries = 64
	suspectAge   = 10 * time.Second
	maxSuspects  = 4096
)

// A source is the address that asked for something to be stored. IPv4 only, as
// dht-rpc is.
type source [4]byte

func sourceOf(a netip.AddrPort) source { return a.Addr().As4() }

// storeNetwork is the network that a source's entries are counted under: a /24. An
// address that is not public has none, and so no quota.
func storeNetwork(s source) (netip.Prefix, bool) { return kad.Subnet(netip.AddrFrom4(s)) }

// StoreLimits bound what a storing node keeps for others. In each field zero
// means the default; negative means no limit.
//
// A public source that is at a quota loses its own oldest entry. When a store is
// full, the /24 that holds most gives way, and in it the address that holds
// most: it loses its oldest entry. Loopback, private and carrier-grade addresses
// have no quota, and give way each for itself.
type StoreLimits struct {
	// Entries is how many announced peers, routes, bumps and refresh chains are
	// kept, of each. Default: 65,536.
	Entries int
	// Records is how many mutable and immutable records are kept, of each.
	// Default: 65,536.
	Records int
	// RecordBytes is how many bytes the mutable records have, all together, and
	// the immutable ones. Default: 32 MiB.
	RecordBytes int
	// PeersPerTopic is how many announced peers one topic has. Default: 4,096.
	PeersPerTopic int
	// PerSource is how many entries of each kind one public address may have.
	// Default: 4,096.
	PerSource int
	// PerNetwork is how many entries of each kind one public /24 may have.
	// Default: 16,384.
	PerNetwork int
	// PeerAge is how long an announcement is kept. Default: 20 minutes.
	PeerAge time.Duration
	// RecordAge is how long a record is kept after it was last put or asked
	// for. Default: 48 hours.
	RecordAge time.Duration
}

func (l StoreLimits) settled() StoreLimits {
	l.Entries = cmp.Or(l.Entries, DefaultStoreEntries)
	l.Records = cmp.Or(l.Records, DefaultStoreRecords)
	l.RecordBytes = cmp.Or(l.RecordBytes, DefaultRecordBytes)
	l.PeersPerTopic = cmp.Or(l.PeersPerTopic, DefaultPeersPerTopic)
	l.PerSource = cmp.Or(l.PerSource, DefaultPerSource)
	l.PerNetwork = cmp.Or(l.PerNetwork, DefaultPerNetwork)
	l.PeerAge = cmp.Or(l.PeerAge, DefaultPeerAge)
	l.RecordAge = cmp.Or(l.RecordAge, DefaultRecordAge)
	return l
}

// stores returns the limits of the stores of peers and the like, and of those of
// records. The limits are settled.
func (l StoreLimits) stores() (peers, records keep.Limits) {
	entries := func(n int) int {
		if n < 0 || n > math.MaxInt32 {
			return math.MaxInt32
		}
		return n
	}
	peers = keep.Limits{
		Entries:    entries(l.Entries),
		Age:        max(l.PeerAge, 0),
		PerSource:  max(l.PerSource, 0),
		PerNetwork: max(l.PerNetwork, 0),
		PerTopic:   max(l.PeersPerTopic, 0),
	}
	records = peers
	records.Entries, records.Age, records.Bytes = entries(l.Records), max(l.RecordAge, 0), max(l.RecordBytes, 0)
	return peers, records
}

// A storage is what a persistent node stores for others, and the rules by which
// it does. docs/spec/hyperdht-records.md §5 to §8.
//
// It is a pure value: requests and the time in, answers out. The time that its
// methods are given is what the clocks read; within, it is store time. Guarded by
// the dhtrpc node's lock.
type storage struct {
	limits     StoreLimits
	clock      *keep.Clock
	wall       time.Time // of the present request; bumps are dates
	rand       *rand.Rand
	routes     *routeTable
	peers      *keep.Sets[Target, PublicKey, storedRelays, source]
	bumps      *keep.Map[Target, uint64, source]
	refreshes  *keep.Map[[32]byte, refreshEntry, source]
	mutables   *keep.Map[Target, []byte, source] // the value of a mutable get's reply
	immutables *keep.Map[Target, []byte, source]
	// firstMessages are those of handshakes with our own listeners; replays.go.
	firstMessages *keep.Map[[32]byte, struct{}, source]
	journal       *journal                       // nil: in memory only
	suspects      *keep.Map[source, int, source] // signatures that did not verify, lately
	counts        StorageCounts
	records       []peerRecord // scratch of a lookup
}

// newStorage returns an empty storage. The journal, which may be nil, notes all
// changes.
func newStorage(limits StoreLimits, journal *journal, rnd *rand.Rand) *storage {
	limits = limits.settled()
	peers, records := limits.stores()
	clock := keep.NewClock(peers.Age, records.Age)
	forget := func(kind string) func(Target, []byte, keep.Reason) {
		return func(t Target, _ []byte, _ keep.Reason) { journal.remove(kind, t[:]) }
	}
	return &storage{
		limits:  limits,
		clock:   clock,
		rand:    rnd,
		journal: journal,
		routes:  newRouteTable(peers, clock, journal),
		peers: keep.NewSets[Target, PublicKey, storedRelays, source](peers, func(t Target, k PublicKey, _ storedRelays, _ keep.Reason) {
			journal.remove(kindPeer, t[:], k[:])
		}).GroupBy(storeNetwork),
		bumps: keep.NewMap[Target, uint64, source](peers, func(t Target, _ uint64, _ keep.Reason) {
			journal.remove(kindBump, t[:])
		}).GroupBy(storeNetwork),
		refreshes: keep.NewMap[[32]byte, refreshEntry, source](peers, func(b [32]byte, _ refreshEntry, _ keep.Reason) {
			journal.remove(kindRefresh, b[:])
		}).GroupBy(storeNetwork),
		firstMessages: keep.NewMap[[32]byte, struct{}, source](keep.Limits{Entries: maxFirstMessages, Age: firstMessageAge}, func(k [32]byte, _ struct{}, _ keep.Reason) {
			journal.remove(kindReplay, k[:])
		}),
		suspects:   keep.NewMap[source, int, source](keep.Limits{Entries: maxSuspects, Age: suspectAge}, nil),
		mutables:   keep.NewMap[Target, []byte, source](records, forget(kindMutable)).GroupBy(storeNetwork),
		immutables: keep.NewMap[Target, []byte, source](records, forget(kindImmutable)).GroupBy(storeNetwork),
	}
}

// expire removes what has reached its age.
func (s *storage) expire(reading time.Time) { s.expireAt(s.clock.Now(reading)) }

func (s *storage) expireAt(now time.Time) {
	s.routes.forwards.Expire(now)
	s.peers.Expire(now)
	s.bumps.Expire(now)
	s.refreshes.Expire(now)
	s.mutables.Expire(now)
	s.immutables.Expire(now)
	s.suspects.Expire(now)
	s.firstMessages.Expire(now)
}

// An answer is what becomes of a request.
type answer struct {
	verdict verdict
	value   []byte           // of a reply; borrowed until the next request
	code    dhtrpc.ErrorCode // of a refusal
	stored  bool             // something must be durable before this leaves
}

type verdict uint8

const (
	verdictNone    verdict = iota // no answer
	verdictReply                  // a reply with token and closer nodes
	verdictBare                   // a reply with neither
	verdictError                  // an error code
	verdictUnknown                // the command is not known
)

// serve carries out one of commands 2 to 9. The id is this node's; without one,
// while it is ephemeral, a node knows none of them.
func (s *storage) serve(reading time.Time, self *dhtrpc.ID, r *dhtrpc.Request) answer {
	if self == nil {
		return answer{verdict: verdictUnknown}
	}
	s.wall = reading
	now := s.clock.Now(reading)
	switch r.Command {
	case cmdFindPeer:
		return s.findPeer(now, r)
	case cmdLookup:
		return s.lookup(now, r)
	case cmdAnnounce:
		return s.announce(now, self, r)
	case cmdUnannounce:
		return s.unannounce(now, self, r)
	case cmdMutablePut:
		return s.mutablePut(now, r)
	case cmdMutableGet:
		return s.mutableGet(now, r)
	case cmdImmutablePut:
		return s.immutablePut(now, r)
	case cmdImmutableGet:
		return s.immutableGet(now, r)
	}
	return answer{verdict: verdictUnknown}
}

// verify checks the signature of a request, and counts it if it is bad.
func (s *storage) verify(now time.Time, from netip.AddrPort, key *[32]byte, message []byte, sig *[64]byte) bool {
	who := sourceOf(from)
	forgeries, _, _ := s.suspects.Get(now, who)
	if forgeries >= maxForgeries {
		s.counts.Suspected++
		return false
	}
	if sodium.VerifyDetached(key, message, sig) {
		return true
	}
	s.counts.BadSignature++
	if _, public := kad.Subnet(from.Addr()); public {
		s.suspects.Put(now, who, forgeries+1, who)
	}
	return false
}

// drop counts a request that is not answered.
func drop(counter *uint64) answer {
	*counter++
	return answer{}
}

func done(counter *uint64, a answer) answer {
	*counter++
	return a
}

func part(d time.Duration, of float64) time.Duration { return time.Duration(float64(d) * of) }

package hyperdht

import (
	"sync/atomic"

	"github.com/warren-dht/warren/dhtrpc"
)

// counters are a node's own statistics.
type counters struct {
	punchesConsistent, punchesRandom, punchesOpen, tryLater atomic.Uint64
	relayAttempts, relaySuccesses, relayAborts              atomic.Uint64
	upgrades, fallbacks, rejoins                            atomic.Uint64
	dials, dialed, accepted, refused                        atomic.Uint64
	badHandshakes, replays, limited                         atomic.Uint64
}

// Stats are a node's counters and sizes. Counters only grow.
type Stats struct {
	RPC     dhtrpc.Stats
	Storage StorageStats
	Router  RouterStats

	// Dials that were begun, and that led to a connection; connections
	// Accepted, and kept out by a listener's Allow (Refused).
	Dials, Dialed, Accepted, Refused uint64
	// Handshakes that made no sense, repeated an old one, or were one too many.
	BadHandshakes, Replays, Limited uint64
	// Punches by their kind, as the reference counts them: when they begin. A
	// punch through which a fast open got counts nowhere.
	PunchesOpen, PunchesConsistent, PunchesRandom, PunchesTryLater uint64
	// Relayed connections: pairings tried, made and given up, moves from a
	// relay to a direct path and back.
	RelayAttempts, RelaySuccesses, RelayAborts, Upgrades, Fallbacks uint64
	// Rejoins are moves of a connection to a path that was found by dialling
	// the peer again.
	Rejoins uint64
	// Extra sockets opened and closed so far.
	SocketsAdded, SocketsRemoved uint64
	// Streams that exist now, and incoming handshakes under way.
	Streams, Handshakes int
}

// Stats returns the node's counters and sizes.
func (n *Node) Stats() Stats {
	c := &n.stats
	s := Stats{
		RPC:   n.rpc.Stats(),
		Dials: c.dials.Load(), Dialed: c.dialed.Load(), Accepted: c.accepted.Load(), Refused: c.refused.Load(),
		BadHandshakes: c.badHandshakes.Load(), Replays: c.replays.Load(), Limited: c.limited.Load(),
		PunchesOpen: c.punchesOpen.Load(), PunchesConsistent: c.punchesConsistent.Load(),
		PunchesRandom: c.punchesRandom.Load(), PunchesTryLater: c.tryLater.Load(),
		RelayAttempts: c.relayAttempts.Load(), RelaySuccesses: c.relaySuccesses.Load(), RelayAborts: c.relayAborts.Load(),
		Upgrades: c.upgrades.Load(), Fallbacks: c.fallbacks.Load(), Rejoins: c.rejoins.Load(),
		SocketsAdded: n.sockets.added.Load(), SocketsRemoved: n.sockets.removed.Load(),
		Streams: len(n.links.list()), Handshakes: n.slots.len(),
	}
	n.rpc.Do(func() {
		s.Router = n.router.stats
		s.Storage = n.records.stats()
	})
	return s
}

package hyperdht

import "github.com/warren-dht/warren/internal/keep"

// StorageStats says what a node stores for others and what was asked of it.
type StorageStats struct {
	StorageCounts

	// The stores, with the bounds that are in force.
	Peers, Routes, Bumps, Refreshes, Mutables, Immutables StoreStats
	Limits                                                StoreLimits

	// With a durable store: commits made, commits that failed, requests dropped
	// because too much waited to be committed, and changes that wait now.
	Commits, CommitsFailed, Busy uint64
	Waiting                      int
}

// StoreStats counts the entries of one store, and what became of them.
type StoreStats = keep.Stats

// StorageCounts counts what was asked of a storing node. The counters only grow.
type StorageCounts struct {
	// Requests answered with success, by command.
	FindPeer, Lookup, Announce, Unannounce, Refresh    uint64
	MutablePut, MutableGet, ImmutablePut, ImmutableGet uint64
	Plugin                                             uint64
	// Mutable puts answered with an error.
	SeqReused, SeqTooLow uint64
	// Requests that were not answered: Malformed ones lack something or do not
	// decode, BadTarget is not the hash of the key or value, BadSignature does
	// not verify, TooLarge is above MaxStoredValue, UnknownRefresh names no
	// chain, UnknownPlugin no plugin of this node. Suspected ones were not
	// looked at because too many before them had a bad signature.
	Malformed, BadTarget, BadSignature, TooLarge, UnknownRefresh, UnknownPlugin, Suspected uint64
	// IgnoredBump are announcements whose bump was stale or too far ahead.
	IgnoredBump uint64
}

// stats returns the counters. The lock is held.
func (r *records) stats() StorageStats {
	s := r.storage
	st := StorageStats{
		StorageCounts: s.counts,
		Peers:         s.peers.Stats(),
		Routes:        s.routes.forwards.Stats(),
		Bumps:         s.bumps.Stats(),
		Refreshes:     s.refreshes.Stats(),
		Mutables:      s.mutables.Stats(),
		Immutables:    s.immutables.Stats(),
		Limits:        s.limits,
		Commits:       r.commits,
		CommitsFailed: r.failed,
		Busy:          r.busy,
	}
	if r.journal != nil {
		st.Waiting = r.journal.Len()
	}
	return st
}

// Package keep holds what others ask a node to remember: announced peers,
// records, routes. Everything in it is bounded in number, in bytes and in age,
// and shared fairly between those who fill it.
//
//	Map   key            -> value           records, routes, bumps
//	Sets  topic, member  -> value           announced peers
//
// # Who gives way
//
// Every entry has a source: the IP address that asked for it, usually. Sources
// may be grouped by network (GroupBy), an IPv4 /24 for example. While there is
// room, a source may store until it reaches a quota; above the quota it loses
// its own oldest entry. When there is no room, the network that holds most
// gives way: in it, the source that holds most loses its oldest entry. What is
// short decides what "most" means: entries, or bytes. So a single source or
// network, however busy, pushes out only its own entries.
//
// # Time
//
// An entry lives for a fixed time after it was last put or renewed. The caller
// passes the time in. It is store time, which a [Clock] makes of the wall clock
// and the monotonic clock; the rule is stated there. A caller whose entries
// matter to nobody after a step of the clock may pass the wall clock instead.
//
// Nothing here locks: a value belongs to one goroutine. Left out on purpose:
// persistence (the removed function tells an owner what to forget), and any
// idea of what keys and values mean.
package keep

import "time"

// Limits bound a Map or Sets. They are read at construction.
type Limits struct {
	// Entries is how many entries are kept at most, over all keys and topics.
	// It must be positive and at most math.MaxInt32.
	Entries int
	// Bytes is how many bytes all entries together may have, each as large as
	// PutSized says. Zero means no limit.
	Bytes int
	// Age is how long an entry lives after it was last put or renewed. Zero
	// means no limit.
	Age time.Duration
	// PerSource is how many entries one source may have, room or no room. Zero
	// means no limit. With GroupBy, sources without a network are exempt.
	PerSource int
	// PerNetwork is how many entries all sources of one network may have
	// together, room or no room. Zero means no limit. It needs GroupBy.
	PerNetwork int
	// PerTopic is how many members one topic of a Sets may have. Zero means no
	// limit.
	PerTopic int
}

// A Reason says why an entry was removed.
type Reason uint8

// The reasons for a removal.
const (
	Deleted   Reason = iota // the owner called Delete
	Expired                 // its age was reached
	Evicted                 // the store or the topic was full
	OverQuota               // its source or network was at its quota
)

// Stats counts what happened to a Map or Sets. The counters only grow.
type Stats struct {
	Entries   int    // entries held now
	Bytes     int    // their bytes, as PutSized was told
	Sources   int    // sources that hold them
	Topics    int    // topics that have members (Sets only)
	Added     uint64 // entries that were new
	Replaced  uint64 // puts to a key or member that was there
	Deleted   uint64
	Expired   uint64
	Evicted   uint64
	OverQuota uint64
}

// Removed is the number of entries removed, for all reasons.
func (s Stats) Removed() uint64 { return s.Deleted + s.Expired + s.Evicted + s.OverQuota }

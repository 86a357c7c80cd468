// Package keep holds what other people ask a node to remember: announced
// peers, records, routes. Everything in it is bounded in number and in age,
// and shared fairly between those who fill it.
//
//	Map   key            -> value           records, routes, bumps
//	Sets  topic, member  -> value           announced peers
//
// Every entry has a source, which is whoever asked for it (an IP address,
// usually). While there is room anybody may use it. When there is none, the
// source that holds most loses its oldest entry, so that a single source, be
// it ever so busy, pushes out nobody but itself.
//
// An entry lives for a fixed time after it was last put or renewed. The caller
// passes the time in; only its wall clock reading is used, because the
// monotonic one stands still while a machine sleeps.
//
// Nothing here locks: a value belongs to one goroutine. Left out on purpose:
// persistence (the removed function tells an owner what to forget), and any
// idea of what keys and values mean.
package keep

import "time"

// Limits bound a Map or Sets. They are read at construction.
type Limits struct {
	// Entries is how many entries are kept at most, over all keys and topics.
	// It must be positive.
	Entries int
	// Age is how long an entry lives after it was last put or renewed; 0 is
	// for ever.
	Age time.Duration
	// PerSource is how many entries one source may have, room or no room; 0
	// sets no such quota.
	PerSource int
	// PerTopic is how many members one topic of a Sets may have; 0 sets no
	// such limit.
	PerTopic int
}

// A Reason says why an entry was removed.
type Reason uint8

// The reasons for a removal.
const (
	Deleted   Reason = iota // the owner called Delete
	Expired                 // its age was reached
	Evicted                 // the store or the topic was full
	OverQuota               // its source was at its quota
)

// Stats counts what happened to a Map or Sets. The counters only grow.
type Stats struct {
	Entries   int    // entries held now
	Sources   int    // sources that hold them
	Topics    int    // topics that have members (Sets only)
	Added     uint64 // entries that were new
	Replaced  uint64 // puts to a key or member that was there
	Deleted   uint64
	Expired   uint64
	Evicted   uint64
	OverQuota uint64
}

// Removed is the number of entries removed for whatever reason.
func (s Stats) Removed() uint64 { return s.Deleted + s.Expired + s.Evicted + s.OverQuota }

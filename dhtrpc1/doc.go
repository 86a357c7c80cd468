// Package dhtrpc1 speaks the first dht-rpc: versions 1.x, 2.x and 3.0.x of the
// npm package, which share one wire format (docs/spec/dht-rpc-v2.md). A node
// answers commands that are strings, and finds the nodes closest to a 32-byte
// target to run a command on them.
//
//	0      1      2
//	+------+------+----------------------------------------------+
//	| R|   tid    | protobuf message Request (R=1) or Response   |
//	+------+------+----------------------------------------------+
//
//	Request   1 command  2 id  3 target  4 forwardRequest
//	          5 forwardResponse  6 roundtripToken  7 value
//	Response  1 id  2 nodes  3 value  4 roundtripToken
//
// There is no version field and no error reply: who cannot answer is silent.
//
// A [Node] is made by [Listen]. Its users ask with [Node.Query], which runs a
// command on the nodes on the way to a target, and [Node.Closest] (in 2.x:
// update), which runs it once more on the closest ones, with proof of our
// address. Its [Handler], usually a [Mux], answers what others ask.
//
// One goroutine, the node's loop, owns all its state (table, calls, tokens);
// another reads the socket; queries and pings run in their callers' goroutines
// and ask the loop.
//
// Where we do otherwise than the reference stands in DEVIATIONS.md. Left out on
// purpose: versions 4 and 5, which speak differently; IPv6, which the compact
// addresses cannot express; retransmission, which the reference has switched
// off; the map option of queries, for which Go has loops.
package dhtrpc1

import (
	"errors"
	"time"

	"github.com/warren-dht/warren/kad"
)

// An ID is a node's id or a query's target.
type ID [idSize]byte

// A Contact is a node's id and IPv4 address. (In the reference: a node.)
type Contact = kad.Contact[ID]

// Constants of the protocol (docs/spec/dht-rpc-v2.md §12).
const (
	// K is how many nodes a response lists and a query searches for.
	K = 20
	// DefaultPort is the port of an address that names none.
	DefaultPort = 3282

	defaultConcurrency = 16
	requestTimeout     = 1500 * time.Millisecond
	secretPeriod       = 5 * time.Minute
	tick               = 5 * time.Second
	sweepTicks         = 8                // a sweep of the table every 40 s
	freshFor           = 15 * time.Second // heard from so recently needs no check
)

// Tuning of ours.
const (
	// MaxDatagram is the size of the largest datagram that a node sends, in
	// bytes. A response lists fewer nodes to make room for its value.
	MaxDatagram = 1200

	inboxSize    = 1024             // datagrams that wait for the loop
	maxOpen      = 1024             // requests that handlers have not answered
	openTimeout  = 30 * time.Second // after which a handler's answer comes too late
	maxQueue     = 4096             // requests that wait for one of the places in flight
	maxChecks    = 16               // pings of the table's upkeep under way
	verifyBatch  = 8                // unproven nodes that a tick pings at most
	relayPerHost = 16               // relayed messages a second for one source
	relayTotal   = 512              // and for all of them
)

// limits bound the contacts of one public subnet in the table.
var limits = kad.Limits{PerBucket: 10, PerTable: 60}

// Errors of requests and queries.
var (
	// ErrClosed means that the node is closed.
	ErrClosed = errors.New("dhtrpc1: node is closed")
	// ErrTimeout means that no answer came within 1.5 s.
	ErrTimeout = errors.New("dhtrpc1: request timed out")
	// ErrNoNodes means that nobody answered a query.
	ErrNoNodes = errors.New("dhtrpc1: no nodes responded")
	// ErrNoCloseNodes means that nobody answered the second part of a closest
	// query.
	ErrNoCloseNodes = errors.New("dhtrpc1: no close nodes responded")
	// ErrTooLarge means that a message would exceed MaxDatagram.
	ErrTooLarge = errors.New("dhtrpc1: message too large for a datagram")
	// ErrBusy means that too many requests wait to be sent.
	ErrBusy = errors.New("dhtrpc1: too many requests waiting")
	// ErrInvalidPong means that the answer to a ping holds no address.
	ErrInvalidPong = errors.New("dhtrpc1: invalid pong")
	// ErrAddress means that an address is not a usable IPv4 one.
	ErrAddress = errors.New("dhtrpc1: not a usable IPv4 address and port")
)

package mainline

import (
	"context"
	"iter"
	"math"
	"net/netip"

	"github.com/warren-dht/warren/internal/feed"
)

// An EventKind says what happened to a node.
type EventKind int

// The events, with bittorrent-dht's names.
const (
	EventListening EventKind = iota + 1 // listening: the sockets are bound; Addr is the first one's
	EventReady                          // ready: bootstrapping has ended; Err if it could not begin
	EventPeer                           // peer: a lookup found Addr for ID; From named it (invalid: our own store)
	EventNode                           // node: the node ID at Addr entered the routing table
	EventAnnounce                       // announce: From announced the peer Addr for ID here
	EventWarning                        // warning: a datagram or a name was no good; Err says why
	EventError                          // error: the node cannot go on; Err says why, and Close follows
	EventClose                          // close: the last event
)

var eventNames = [...]string{
	EventListening: "listening", EventReady: "ready", EventPeer: "peer", EventNode: "node",
	EventAnnounce: "announce", EventWarning: "warning", EventError: "error", EventClose: "close",
}

// String returns bittorrent-dht's name of the event.
func (k EventKind) String() string {
	if k <= 0 || int(k) >= len(eventNames) {
		return "unknown"
	}
	return eventNames[k]
}

// An Event is something that happened to a node. A value.
type Event struct {
	Kind EventKind
	ID   ID             // the node's id, or the info-hash
	Addr netip.AddrPort // what it is about
	From netip.AddrPort // who said so
	Err  error
}

// maxEvents bounds the events that wait for a reader that is slow; further ones
// are lost to it, but for the last ones of a node.
const maxEvents = 1024

// tell puts an event into a reader's feed.
func tell(f *feed.Feed[Event], e Event) {
	switch e.Kind {
	case EventClose:
		f.End(e)
	case EventError, EventReady:
		f.Put(e, math.MaxInt)
	default:
		f.Put(e, maxEvents)
	}
}

// Events returns what happens to the node from now on, as a stream for one
// reader. It begins with what has happened already: EventListening, and
// EventReady if bootstrapping has ended. It ends after EventClose, when the loop
// is left, or when the context ends, which must happen one day if the stream is
// never read. A reader that falls behind by a thousand events misses some.
func (n *Node) Events(ctx context.Context) iter.Seq[Event] {
	s := feed.New[Event]()
	tell(s, Event{Kind: EventListening, Addr: n.Addr()})
	n.mu.Lock()
	if n.isReady {
		tell(s, Event{Kind: EventReady, Err: n.readyErr})
	}
	if n.closed {
		tell(s, Event{Kind: EventClose})
	} else {
		n.subscribers[s] = struct{}{}
	}
	n.mu.Unlock()
	drop := func() {
		n.mu.Lock()
		delete(n.subscribers, s)
		n.mu.Unlock()
	}
	return s.All(ctx, drop)
}

// emit tells all subscribers. The caller holds the mutex.
func (n *Node) emit(e Event) {
	for s := range n.subscribers {
		tell(s, e)
	}
}

// warn tells all subscribers what was no good.
func (n *Node) warn(err error, addr netip.AddrPort) {
	if len(n.subscribers) > 0 {
		n.emit(Event{Kind: EventWarning, Addr: addr, Err: err})
	}
}

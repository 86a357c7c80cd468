package dhtrpc

import (
	"context"
	"iter"
	"net/netip"

	"github.com/warren-dht/warren/internal/feed"
)

// An EventKind says what happened to a node.
type EventKind int

// The events, with the reference's names.
const (
	EventListening     EventKind = iota + 1 // listening: the sockets are bound; Addr is the server socket's
	EventReady                              // ready: bootstrapping has ended
	EventPersistent                         // persistent: the node has an id and is listed by others; Addr is its public address
	EventEphemeral                          // ephemeral: it no longer is persistent
	EventWakeup                             // wakeup: the machine slept, or the node was resumed
	EventNetworkChange                      // network-change: interfaces or addresses of this machine changed
	EventNetworkUpdate                      // network-update: they did, or Online or Degraded changed
	EventNATUpdate                          // nat-update: Addr is the new public address; its host may be invalid, its port 0
	EventNodeAdded                          // add-node: Addr entered the routing table
	EventNodeRemoved                        // remove-node: Addr left it
	EventSuspend                            // suspend
	EventResume                             // resume
	EventClose                              // close: the last event
)

var eventNames = [...]string{
	EventListening: "listening", EventReady: "ready", EventPersistent: "persistent", EventEphemeral: "ephemeral",
	EventWakeup: "wakeup", EventNetworkChange: "network-change", EventNetworkUpdate: "network-update",
	EventNATUpdate: "nat-update", EventNodeAdded: "add-node", EventNodeRemoved: "remove-node",
	EventSuspend: "suspend", EventResume: "resume", EventClose: "close",
}

// String returns the reference's name of the event.
func (k EventKind) String() string {
	if k <= 0 || int(k) >= len(eventNames) {
		return "unknown"
	}
	return eventNames[k]
}

// An Event is something that happened to a node. A value.
type Event struct {
	Kind EventKind
	Addr netip.AddrPort // what it is about, where the kind says so
}

// maxEvents bounds the events that wait for a reader that is slow. The table's
// coming and going is dropped first.
const maxEvents = 256

// tell puts an event into a reader's feed.
func tell(f *feed.Feed[Event], e Event) {
	switch e.Kind {
	case EventClose:
		f.End(e)
	case EventNodeAdded, EventNodeRemoved:
		f.Put(e, maxEvents)
	default:
		f.Put(e, 2*maxEvents)
	}
}

// Events returns what happens to the node from now on, as a stream for one
// reader. It begins with what has happened already: EventListening, and
// EventPersistent and EventReady if they are true now. It ends after EventClose,
// when the loop is left, or when the context ends, which must happen one day if
// the stream is never read. A reader that falls behind by hundreds of events
// misses some, those about single nodes first.
func (n *Node) Events(ctx context.Context) iter.Seq[Event] {
	s := feed.New[Event]()
	n.enter()
	if !n.closed {
		n.subscribers[s] = struct{}{}
		n.watch()
	}
	for _, e := range n.core.past() {
		tell(s, e)
	}
	if n.closed {
		tell(s, Event{Kind: EventClose})
	}
	n.leave()
	drop := func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if delete(n.subscribers, s); len(n.subscribers) == 0 {
			n.stopWatch()
		}
	}
	return s.All(ctx, drop)
}

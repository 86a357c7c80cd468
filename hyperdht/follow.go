package hyperdht

import (
	"time"

	"github.com/warren-dht/warren/dhtrpc"
)

// knocks are when peers are told of a new address of ours, after the network
// has changed: they challenge it when they have heard nothing from the old one for
// migrateAfter.
var knocks = [...]time.Duration{migrateAfter + 100*time.Millisecond, time.Second, 2 * time.Second}

// followNetwork sees to it that peers find us again when our address changes:
// listeners are announced anew, and the other ends of connections hear from the
// new address. It ends with the node.
func (n *Node) followNetwork() {
	var timers []*time.Timer // of the last change
	stop := func() {
		for _, t := range timers {
			t.Stop()
		}
		timers = nil
	}
	defer stop()
	for e := range n.rpc.Events(n.ctx) {
		if e.Kind != dhtrpc.EventNetworkChange {
			continue
		}
		now := time.Now()
		n.changed.Store(&now)
		n.mu.Lock()
		listeners := n.listenersLocked()
		n.mu.Unlock()
		for _, l := range listeners {
			l.Refresh()
		}
		stop()
		for _, after := range knocks {
			timers = append(timers, time.AfterFunc(after, func() {
				for _, l := range n.links.list() {
					l.knock()
				}
			}))
		}
	}
}

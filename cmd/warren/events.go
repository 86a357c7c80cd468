package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
)

// logEvents logs what happens to a node, until it is closed: at info what an
// operator cares about, at debug the nodes that come and go, too. The channel is
// closed after the last event.
func (a *app) logEvents(node *hyperdht.Node) <-chan struct{} {
	done := make(chan struct{})
	if !a.log.Enabled(context.Background(), slog.LevelInfo) {
		close(done)
		return done
	}
	events := node.Events(context.Background()) // from now on
	// What other nodes reply, or do not, decides how often these happen.
	addresses := newLineLimit(a.log, slog.LevelInfo, dhtrpc.EventNATUpdate.String())
	networks := newLineLimit(a.log, slog.LevelInfo, dhtrpc.EventNetworkUpdate.String())
	go func() {
		defer close(done)
		defer addresses.end()
		defer networks.end()
		for e := range events {
			level := slog.LevelInfo
			if e.Kind == dhtrpc.EventNodeAdded || e.Kind == dhtrpc.EventNodeRemoved {
				level = slog.LevelDebug
			}
			var attrs []slog.Attr
			if e.Addr.IsValid() {
				attrs = append(attrs, slog.String("addr", e.Addr.String()))
			}
			switch e.Kind {
			case dhtrpc.EventNATUpdate:
				addresses.line("", attrs...)
			case dhtrpc.EventNetworkUpdate:
				networks.line("", attrs...)
			default:
				a.log.LogAttrs(context.Background(), level, e.Kind.String(), attrs...)
			}
		}
	}()
	return done
}

// nodeEvent prints an event of a node with the address and id that it has.
func (a *app) nodeEvent(name string, at netip.AddrPort, id string) {
	text := fmt.Sprintf("%s %v", name, at)
	if id != "" {
		text += " id " + id
	}
	a.event(struct {
		Event string `json:"event"`
		addrJSON
		ID string `json:"id,omitempty"`
	}{name, addr(at), id}, "%s", text)
}

// plainEvent prints an event that has nothing but a name.
func (a *app) plainEvent(name string) {
	a.event(struct {
		Event string `json:"event"`
	}{name}, "%s", name)
}

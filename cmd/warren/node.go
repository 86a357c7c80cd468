package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"

	"github.com/spf13/cobra"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
)

func (a *app) nodeCommand() *cobra.Command {
	var flags nodeFlags
	var count int
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Run one or several nodes until stopped",
		Long: `Run one or several nodes of the HyperDHT until stopped. A node first tries port 49737
and those after it.`,
		Example: `  warren node
  warren node --nodes 5 --bootstrap 10.0.0.1:49737
  warren node --ephemeral=false --firewalled=false --store /var/lib/warren --metrics 127.0.0.1:9100`,
		GroupID: groupNodes,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case count < 1:
				return usage("--nodes: %d is not positive", count)
			case count > 1 && flags.port != 0:
				return usage("--port is for one node, not for --nodes %d", count)
			case count > 1 && flags.metrics.at != "":
				return usage("--metrics is for one node, not for --nodes %d", count)
			}
			cfg, err := flags.node(a)
			if err != nil {
				return err
			}
			cfg.AnyPort = false
			return a.nodes(cmd.Context(), cfg, count)
		},
	}
	flags.add(cmd)
	cmd.Flags().IntVar(&count, "nodes", 1, "how many")
	return cmd
}

func (a *app) nodes(ctx context.Context, cfg nodeConfig, count int) error {
	if os.Getenv("GOGC") == "" {
		// What a node stores lives for days. Collecting garbage twice as often
		// costs little, and bounds a process with full stores by 350 MB.
		debug.SetGCPercent(50)
	}
	var ended sync.WaitGroup
	defer ended.Wait()
	for i := range count {
		c := cfg
		if cfg.store != "" && count > 1 {
			c.store = filepath.Join(cfg.store, strconv.Itoa(i+1))
		}
		node, stop, err := a.start(c)
		if err != nil {
			return err
		}
		defer stop()
		ended.Go(func() { a.tell(node) })
	}
	return untilStopped(ctx)
}

// tell prints what happens to a node, until it is closed.
func (a *app) tell(node *hyperdht.Node) {
	for e := range node.Events(context.Background()) {
		switch e.Kind {
		case dhtrpc.EventListening, dhtrpc.EventReady, dhtrpc.EventEphemeral, dhtrpc.EventNetworkChange, dhtrpc.EventClose:
			a.nodeEvent(e.Kind.String(), node.RPC().LocalAddr(), nodeID(node))
		case dhtrpc.EventPersistent:
			a.nodeEvent(e.Kind.String(), e.Addr, nodeID(node))
		case dhtrpc.EventNATUpdate:
			a.natEvent(e.Addr)
		}
	}
}

// natEvent tells of the public address, of which a part may not be known.
func (a *app) natEvent(public netip.AddrPort) {
	host := ""
	if public.Addr().IsValid() {
		host = public.Addr().String()
	}
	a.event(struct {
		Event string `json:"event"`
		addrJSON
	}{"nat-update", addrJSON{host, public.Port()}}, "nat-update %s", fmt.Sprintf("%s:%d", host, public.Port()))
}

// nodeID is a node's id in hex, empty while it is ephemeral.
func nodeID(node *hyperdht.Node) string {
	id, ok := node.RPC().ID()
	if !ok {
		return ""
	}
	return id.String()
}

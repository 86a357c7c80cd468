package hyperdht

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/warren-dht/warren/dhtrpc"
)

// ErrPluginTaken means that a plugin of this name is registered already.
var ErrPluginTaken = errors.New("hyperdht: plugin name is taken")

// A Plugin adds commands of its own to a network: they travel inside command
// 10, under the plugin's name and version. Nodes that do not have the plugin,
// or another version of it, do not answer. docs/spec/hyperdht-records.md §13.
type Plugin struct {
	Name    string
	Version uint64
	// Serve answers a request while the node is persistent; nil for a plugin
	// that only asks. It runs under the node's lock: it must not wait and must
	// not call the node. It must check targets and tokens itself. A panic is
	// logged, and the request not answered.
	Serve func(*PluginRequest)
}

// A PluginRequest is a request to a plugin. Its Command and Value are those of
// the plugin; those of the embedded request belong to the envelope. Valid until
// Serve returns, unless it is detached.
type PluginRequest struct {
	*dhtrpc.Request
	Command uint64
	Value   []byte // nil: absent
}

// A PluginMessage is a command for other nodes' plugins.
type PluginMessage struct {
	Command uint64
	Target  *Target   // nil: absent
	Token   *[32]byte // of an earlier reply; nil: absent
	Value   []byte    // nil: absent
}

// A PluginClient asks other nodes' plugins. Safe for concurrent use.
type PluginClient struct {
	plugin Plugin
	rpc    *dhtrpc.Node
}

// Register adds a plugin to the node.
func (n *Node) Register(p Plugin) (*PluginClient, error) {
	c := &PluginClient{plugin: p, rpc: n.rpc}
	var err error
	n.rpc.Do(func() {
		if _, taken := n.records.plugins[p.Name]; taken {
			err = fmt.Errorf("%w: %q", ErrPluginTaken, p.Name)
			return
		}
		n.records.plugins[p.Name] = c
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Unregister removes the plugin from its node.
func (n *Node) Unregister(c *PluginClient) {
	n.rpc.Do(func() {
		if n.records.plugins[c.plugin.Name] == c {
			delete(n.records.plugins, c.plugin.Name)
		}
	})
}

func (c *PluginClient) wrap(m PluginMessage) dhtrpc.Message {
	p := pluginRequest{plugin: c.plugin.Name, version: c.plugin.Version, command: m.Command, value: m.Value}
	return dhtrpc.Message{Command: cmdPlugin, Target: (*dhtrpc.ID)(m.Target), Token: m.Token, Value: p.append(nil)}
}

// Request asks one node's plugin and waits for the answer.
func (c *PluginClient) Request(ctx context.Context, to netip.AddrPort, m PluginMessage, opts ...dhtrpc.RequestOption) (dhtrpc.Reply, error) {
	return c.rpc.Request(ctx, to, c.wrap(m), opts...)
}

// Query returns a query that asks the plugins of the nodes closest to the
// message's target, which must not be nil. Commits are up to the plugin.
func (c *PluginClient) Query(m PluginMessage, o dhtrpc.QueryOptions) *dhtrpc.Query {
	return c.rpc.Query(c.wrap(m), o)
}

// servePlugin hands a request to its plugin.
func (r *records) servePlugin(req *dhtrpc.Request) {
	counts := &r.storage.counts
	m, err := parsePluginRequest(req.Value)
	if err != nil || req.Value == nil {
		counts.Malformed++
		return
	}
	c := r.plugins[m.plugin]
	if c == nil || c.plugin.Version != m.version || c.plugin.Serve == nil {
		counts.UnknownPlugin++
		return
	}
	counts.Plugin++
	guard(r.panics, r.logger, "Plugin.Serve", func() {
		c.plugin.Serve(&PluginRequest{Request: req, Command: m.command, Value: m.value})
	})
}

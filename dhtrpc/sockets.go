package dhtrpc

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/warren-dht/warren/udp"
)

// bind opens the server and the client socket, on the ports they had before if
// they had any. docs/spec/dht-rpc.md §5.2.
func bind(cfg *Config, serverPort, clientPort uint16) (server, client udp.Conn, err error) {
	var ports []uint16
	if serverPort != 0 {
		ports = append(ports, serverPort)
	}
	end := int(cfg.PortEnd)
	if end == 0 && cfg.Port != 0 {
		end = min(int(cfg.Port)+DefaultPortRange, 1<<16)
	}
	for p := int(cfg.Port); p < end; p++ {
		ports = append(ports, uint16(p))
	}
	if cfg.ExactPort {
		ports = []uint16{cfg.Port}
	} else {
		ports = append(ports, 0)
	}
	for _, p := range ports {
		if server, err = cfg.Network.Listen(netip.AddrPortFrom(cfg.Host, p)); err == nil {
			break
		}
	}
	if err != nil {
		field := "Host"
		if cfg.ExactPort {
			field = "Port"
		}
		return nil, nil, fmt.Errorf("dhtrpc: Config.%s: %w", field, err)
	}
	if clientPort != 0 {
		client, err = cfg.Network.Listen(netip.AddrPortFrom(cfg.Host, clientPort))
	}
	if client == nil {
		client, err = cfg.Network.Listen(netip.AddrPortFrom(cfg.Host, 0))
	}
	if err != nil {
		server.Close()
		return nil, nil, fmt.Errorf("dhtrpc: Config.Host: %w", err)
	}
	return server, client, nil
}

// attach makes the node use two sockets. The lock is held.
func (n *Node) attach(server, client udp.Conn) {
	c := n.core
	c.server, c.client = server, client
	n.bound, n.unbind = context.WithCancel(n.ctx)
	c.local = n.localAddrs()
	handlers := append(append([]udp.Handler(nil), n.cfg.Before...), n)
	for _, conn := range []udp.Conn{server, client} {
		n.bounded.Go(func() { udp.Serve(conn, handlers...) })
	}
	n.watch()
	c.emit(EventListening, server.LocalAddr())
}

// localAddrs are the IPv4 addresses of this machine that reach the sockets.
func (n *Node) localAddrs() []netip.Addr {
	if !n.cfg.Host.IsUnspecified() {
		return []netip.Addr{n.cfg.Host}
	}
	addrs, err := n.cfg.Network.Addrs()
	if err != nil {
		n.cfg.Logger.Debug("dhtrpc: this machine's addresses are unknown", "error", err)
	}
	return slices.DeleteFunc(addrs, func(ip netip.Addr) bool { return !ip.Is4() })
}

// watch starts to watch this machine's interfaces, if there is somebody to be
// told: nothing else depends on it, and a watch weighs as much as the rest of
// an idle node. The lock is held.
func (n *Node) watch() {
	if n.unwatch != nil || n.closed || n.core.suspended || len(n.subscribers) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(n.ctx)
	n.unwatch = cancel
	changes := n.cfg.Network.Watch(ctx)
	n.running.Add(1)
	go func() {
		defer n.running.Done()
		for range changes {
			n.enter()
			if ctx.Err() == nil {
				n.core.emit(EventNetworkChange, netip.AddrPort{})
				n.core.emit(EventNetworkUpdate, netip.AddrPort{})
			}
			n.leave()
		}
	}()
}

// stopWatch ends the watch of interfaces. The lock is held.
func (n *Node) stopWatch() {
	if n.unwatch != nil {
		n.unwatch()
		n.unwatch = nil
	}
}

// HandleBatch implements [udp.Handler], so that a node can be served on sockets
// of others too, such as those of a hole punch: replies arriving there are
// matched with its requests, and requests are answered there, without an id. It
// claims datagrams of two bytes or more that begin as a request or a reply.
func (n *Node) HandleBatch(conn udp.Conn, batch []udp.Datagram) []udp.Datagram {
	rest := batch[:0]
	locked := false
	for i := range batch {
		p := batch[i].Payload
		if len(p) < 2 || p[0] != requestByte && p[0] != replyByte {
			rest = append(rest, batch[i])
			continue
		}
		if !locked {
			locked = true
			n.enter()
		}
		if !n.closed {
			n.core.receive(conn, &batch[i])
		}
	}
	if locked {
		n.leave()
	}
	return rest
}

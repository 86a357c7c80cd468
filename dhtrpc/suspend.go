package dhtrpc

import (
	"net/netip"
)

// shut fails all requests, ends the procedures and closes the sockets. The lock is held.
func (n *Node) shut(err error) {
	c := n.core
	was := c.suspended
	c.suspended = true
	for q := range c.queries {
		q.stopLocked(err)
	}
	c.cancelAll(err)
	c.delayed.clear()
	if was {
		return
	}
	n.unbind()
	n.stopWatch()
	c.server.Close()
	c.client.Close()
}

// Suspend stops the node for a while, as when a phone's application goes to the
// background: requests fail with ErrSuspended, sockets are closed, nothing runs.
// A second call does nothing.
func (n *Node) Suspend() error {
	n.life.Lock()
	defer n.life.Unlock()
	n.enter()
	switch {
	case n.closed:
		n.leave()
		return ErrClosed
	case n.core.suspended:
		n.leave()
		return nil
	}
	n.shut(ErrSuspended)
	n.core.emit(EventSuspend, netip.AddrPort{})
	n.leave()
	n.bounded.Wait()
	return nil
}

// Resume ends a suspension: it binds the sockets again, on their old ports if
// they are free, and refreshes the routing table. If that fails the node is
// still suspended, and Resume can be called again.
func (n *Node) Resume() error {
	n.life.Lock()
	defer n.life.Unlock()
	n.mu.Lock()
	c := n.core
	if n.closed || !c.suspended {
		defer n.mu.Unlock()
		return n.usable()
	}
	serverPort, clientPort := c.server.LocalAddr().Port(), c.client.LocalAddr().Port()
	n.mu.Unlock()
	server, client, err := bind(&n.cfg, serverPort, clientPort)
	if err != nil {
		return err
	}
	n.enter()
	defer n.leave()
	c.suspended = false
	c.window.since = c.now
	n.attach(server, client)
	c.wakeup()
	c.ticked, c.nextAt = c.now.Round(0), c.now.Add(tickTime)
	if server.LocalAddr().Port() != serverPort { // our public address is another one, too
		c.unsettle()
	}
	switch {
	case !c.bootstrapped:
		n.spawn(n.bootstrap)
	case c.unsettled:
		c.want(taskSettle)
	default:
		c.want(taskRefresh)
	}
	c.emit(EventResume, netip.AddrPort{})
	return nil
}

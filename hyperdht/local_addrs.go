package hyperdht

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/warren-dht/warren/udp"
)

// localAddrs are a node's addresses on the local network, for peers in the same
// one (spec §8.1). Safe for concurrent use.
type localAddrs struct {
	turn *semaphore.Weighted // guards good; held while a test runs: each takes a socket
	good map[netip.Addr]bool // outcome of the self-test
}

// maxLocalAddrs bounds the addresses that are told.
const maxLocalAddrs = 8

// list returns the addresses of the server socket: the one it is bound to, or
// those of all interfaces, loopback only if there is nothing else.
func (l *localAddrs) list(n *Node) []netip.AddrPort {
	bound := n.rpc.ServerConn().LocalAddr()
	at := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, bound.Port()) }
	if !bound.Addr().IsUnspecified() {
		return []netip.AddrPort{bound}
	}
	var out []netip.AddrPort
	addrs, _ := n.cfg.Network.Addrs()
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && len(out) < maxLocalAddrs {
			out = append(out, at(a))
		}
	}
	if len(out) == 0 {
		out = append(out, at(netip.AddrFrom4([4]byte{127, 0, 0, 1})))
	}
	return out
}

// tested returns those of list that this host can reach itself at.
func (l *localAddrs) tested(ctx context.Context, n *Node) []netip.AddrPort {
	list := l.list(n)
	if l.turn.Acquire(ctx, 1) != nil {
		return nil
	}
	defer l.turn.Release(1)
	return slices.DeleteFunc(list, func(a netip.AddrPort) bool {
		if a.Addr().IsLoopback() {
			return false
		}
		good, known := l.good[a.Addr()]
		if known {
			return !good
		}
		good = selfTest(ctx, n.cfg.Network, a.Addr())
		if ctx.Err() == nil { // else it was cut short
			if l.good == nil || len(l.good) > 64 {
				l.good = map[netip.Addr]bool{}
			}
			l.good[a.Addr()] = good
		}
		return !good
	})
}

// selfTest sends a byte from an address of this host to itself.
func selfTest(ctx context.Context, network udp.Network, a netip.Addr) bool {
	conn, err := network.Listen(netip.AddrPortFrom(a, 0))
	if err != nil {
		return false
	}
	heard := make(chan struct{})
	var once sync.Once
	done := make(chan struct{})
	go func() {
		defer close(done)
		udp.Serve(conn, udpHandlerFunc(func(udp.Conn, []udp.Datagram) []udp.Datagram {
			once.Do(func() { close(heard) })
			return nil
		}))
	}()
	conn.WriteBatch([]udp.Datagram{{Payload: punchByte[:], Peer: conn.LocalAddr()}})
	t := time.NewTimer(500 * time.Millisecond)
	defer t.Stop()
	ok := false
	select {
	case <-heard:
		ok = true
	case <-t.C:
	case <-ctx.Done():
	}
	conn.Close()
	<-done
	return ok
}

// Package udp is the line between the protocols and the world: datagrams,
// sockets that read and write them in batches, and the machine's network as a
// factory of such sockets. Package vnet implements the same interfaces in
// memory, so everything above runs on either.
package udp

import (
	"context"
	"net/netip"
)

// A Datagram is one UDP datagram on its way in or out.
type Datagram struct {
	// Payload is the UDP payload. On receipt it is borrowed: it is valid until
	// the handler returns, or until the next ReadBatch on the same Conn. On
	// sending the Conn does not keep it after WriteBatch returns.
	Payload []byte
	// Peer is whence the datagram came, or whither it goes. IPv4 addresses are
	// never in their IPv6-mapped form.
	Peer netip.AddrPort
	// TTL is the hop limit when sending; 0 is the socket's default (64).
	// It is 0 on receipt.
	TTL uint8
}

// A Conn is a bound UDP socket. It is safe for concurrent use, but only one
// goroutine may read, and that goroutine is [Serve].
type Conn interface {
	// ReadBatch waits until datagrams are there, holding no buffer while it
	// waits, and fills as many elements as it can, at least one. It returns
	// net.ErrClosed after Close. Errors that ICMP or the kernel reports about
	// earlier sends are not returned.
	ReadBatch([]Datagram) (int, error)
	// WriteBatch sends the datagrams in order and returns how many the kernel
	// took. A datagram that cannot be sent (unreachable, too large, refused by
	// a filter) counts as sent and lost, as a network would lose it; only
	// net.ErrClosed is an error.
	WriteBatch([]Datagram) (int, error)
	// LocalAddr is the address that the socket is bound to.
	LocalAddr() netip.AddrPort
	// Close closes the socket and wakes the reader. Only the first call has an
	// effect; it returns nil afterwards.
	Close() error
}

// A Network is a host's access to the network: this machine's (Default), or a
// virtual host's.
type Network interface {
	// Listen binds a socket. Port 0 lets the network choose one.
	Listen(netip.AddrPort) (Conn, error)
	// Addrs lists this host's unicast addresses, loopback ones included.
	Addrs() ([]netip.Addr, error)
	// Watch returns a channel that receives a value, without blocking, each
	// time the host's interfaces or addresses changed. It is closed when the
	// context ends. Each caller has a channel of its own.
	Watch(context.Context) <-chan struct{}
}

// A Handler is offered the datagrams of a socket.
type Handler interface {
	// HandleBatch takes the datagrams that are its own and returns the others,
	// in order; it may reorder and reuse the slice. It must not wait, and must
	// copy what it keeps.
	HandleBatch(Conn, []Datagram) (rest []Datagram)
}

// Serve reads from conn until it is closed and offers each batch to the
// handlers in order; what none of them claims is dropped. It is the only
// reader of a socket, and it returns when the socket is closed.
func Serve(conn Conn, handlers ...Handler) {
	batch := make([]Datagram, firstBatch)
	for {
		n, err := conn.ReadBatch(batch)
		if err != nil {
			return
		}
		if n == len(batch) && n < BatchSize { // after this one there may be more
			batch = append(make([]Datagram, 0, BatchSize), batch...)[:BatchSize]
		}
		rest := batch[:n]
		for _, h := range handlers {
			if rest = h.HandleBatch(conn, rest); len(rest) == 0 {
				break
			}
		}
	}
}

// BatchSize is the number of datagrams that Serve reads at most at once.
const BatchSize = 64

// firstBatch is what Serve makes room for until a socket is busy.
const firstBatch = 8

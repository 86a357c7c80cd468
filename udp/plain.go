package udp

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

var plainBuffers = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// plainConn is a socket that uses what package net offers, a system call for a
// datagram. Safe for concurrent use, with one reader.
type plainConn struct {
	socket
	wait waiter

	lent *[maxDatagram]byte // what the last ReadBatch handed out; owned by the reader

	// A hop limit is an option of the whole socket here, so a datagram that has
	// its own goes alone.
	ttl    sync.RWMutex
	setTTL func(int) error
}

func newPlainConn(s socket) Conn {
	c := &plainConn{socket: s}
	c.wait.init(s.raw)
	if s.local.Addr().Is4() {
		c.setTTL = ipv4.NewPacketConn(s.c).SetTTL
	} else {
		c.setTTL = ipv6.NewPacketConn(s.c).SetHopLimit
	}
	return c
}

func (c *plainConn) ReadBatch(batch []Datagram) (int, error) {
	if c.lent != nil {
		plainBuffers.Put(c.lent)
		c.lent = nil
	}
	if len(batch) == 0 {
		return 0, nil
	}
	for failures := 0; ; failures++ {
		if failures > maxReadFailures {
			time.Sleep(readFailurePause)
		}
		if err := c.wait.readable(); errors.Is(err, net.ErrClosed) {
			return 0, net.ErrClosed
		}
		buf := plainBuffers.Get().(*[maxDatagram]byte)
		n, peer, err := c.c.ReadFromUDPAddrPort(buf[:])
		if err == nil || n > 0 { // Windows reports one that it cut with an error
			c.lent = buf
			batch[0] = Datagram{
				Payload: buf[:n:n],
				Peer:    netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()),
			}
			return 1, nil
		}
		plainBuffers.Put(buf)
		if errors.Is(err, net.ErrClosed) {
			return 0, net.ErrClosed
		}
	}
}

func (c *plainConn) WriteBatch(batch []Datagram) (int, error) {
	for i := range batch {
		if err := c.write(&batch[i]); errors.Is(err, net.ErrClosed) {
			return i, net.ErrClosed
		}
	}
	return len(batch), nil
}

func (c *plainConn) write(d *Datagram) error {
	if d.TTL == 0 || d.TTL == defaultTTL {
		c.ttl.RLock()
		defer c.ttl.RUnlock()
		_, err := c.c.WriteToUDPAddrPort(d.Payload, d.Peer)
		return err
	}
	c.ttl.Lock()
	defer c.ttl.Unlock()
	if err := c.setTTL(int(d.TTL)); err != nil {
		return err
	}
	_, err := c.c.WriteToUDPAddrPort(d.Payload, d.Peer)
	if e := c.setTTL(defaultTTL); e != nil {
		return e
	}
	return err
}

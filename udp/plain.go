package udp

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// defaultTTL is the hop limit of a datagram that asks for none.
const defaultTTL = 64

// maxPlain is the longest datagram that a buffer of the pool holds; longer ones
// arrive cut, as they do in the reference (docs/spec/udx.md §4).
const maxPlain = 2048

var plainBuffers = sync.Pool{New: func() any { return new([maxPlain]byte) }}

// plainConn is a socket that uses what package net offers, a system call for a
// datagram. Safe for concurrent use, with one reader.
type plainConn struct {
	c     *net.UDPConn
	local netip.AddrPort
	wait  waiter

	lent *[maxPlain]byte // what the last ReadBatch handed out; owned by the reader

	// A hop limit is an option of the whole socket, so a datagram that has its
	// own goes alone.
	ttl    sync.RWMutex
	setTTL func(int) error
}

func newPlainConn(c *net.UDPConn) (Conn, error) {
	pc := &plainConn{c: c, local: localAddr(c)}
	raw, err := c.SyscallConn()
	if err != nil {
		c.Close()
		return nil, err
	}
	pc.wait.init(raw)
	if pc.local.Addr().Is4() {
		pc.setTTL = ipv4.NewPacketConn(c).SetTTL
	} else {
		pc.setTTL = ipv6.NewPacketConn(c).SetHopLimit
	}
	return pc, nil
}

func localAddr(c *net.UDPConn) netip.AddrPort {
	a := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func (c *plainConn) LocalAddr() netip.AddrPort { return c.local }

func (c *plainConn) Close() error {
	if err := c.c.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (c *plainConn) ReadBatch(batch []Datagram) (int, error) {
	if c.lent != nil {
		plainBuffers.Put(c.lent)
		c.lent = nil
	}
	if len(batch) == 0 {
		return 0, nil
	}
	for {
		if err := c.wait.readable(); errors.Is(err, net.ErrClosed) {
			return 0, net.ErrClosed
		}
		buf := plainBuffers.Get().(*[maxPlain]byte)
		n, peer, err := c.c.ReadFromUDPAddrPort(buf[:])
		if err == nil || n > 0 {
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

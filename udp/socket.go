package udp

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Settings of every socket; those of the reference are in docs/spec/udx.md §4,
// and §8.4 says why the buffers are larger here.
const (
	// defaultTTL is the hop limit of a datagram that asks for none.
	defaultTTL = 64
	// socketBuffer is what both kernel buffers are asked to hold, in bytes.
	socketBuffer = 4 << 20
)

// maxDatagram is the longest datagram that is read whole without receive
// offload; longer ones arrive cut, as they do in the reference.
const maxDatagram = 2048

// A read that fails for another reason than Close is tried again: ICMP errors and
// the like are over by then. One that fails for ever must not take a whole core.
const (
	maxReadFailures  = 16
	readFailurePause = 10 * time.Millisecond
)

// A socket is what the plain and the fast path have in common.
type socket struct {
	c     *net.UDPConn
	raw   syscall.RawConn
	local netip.AddrPort
}

func (s *socket) LocalAddr() netip.AddrPort { return s.local }

func (s *socket) Close() error {
	if err := s.c.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// setBuffers asks for the kernel buffers of socketBuffer bytes, or the largest
// that the system grants.
func (s *socket) setBuffers() {
	for size := socketBuffer; size >= 256<<10 && s.c.SetReadBuffer(size) != nil; size /= 2 {
	}
	for size := socketBuffer; size >= 256<<10 && s.c.SetWriteBuffer(size) != nil; size /= 2 {
	}
}

// control runs f on the file descriptor.
func (s *socket) control(f func(fd int) error) error {
	var err error
	if e := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

//go:build unix

package udp

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// A waiter waits for a socket to become readable without reading from it.
type waiter struct {
	raw  syscall.RawConn
	poll func(fd uintptr) bool
	fds  [1]unix.PollFd
}

func (w *waiter) init(raw syscall.RawConn) {
	w.raw = raw
	w.poll = func(fd uintptr) bool {
		w.fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		n, err := unix.Poll(w.fds[:], 0)
		return n > 0 || err != nil && err != unix.EINTR
	}
}

// readable returns net.ErrClosed, wrapped, once the socket is closed.
func (w *waiter) readable() error { return w.raw.Read(w.poll) }

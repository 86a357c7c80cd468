//go:build !unix

package udp

import "syscall"

// A waiter waits for a socket to become readable without reading from it.
type waiter struct {
	raw   syscall.RawConn
	asked bool
	poll  func(fd uintptr) bool
}

func (w *waiter) init(raw syscall.RawConn) {
	w.raw = raw
	// After the first false package net waits with a peek of no bytes, which
	// ends at once when a datagram is there already.
	w.poll = func(uintptr) bool {
		w.asked = !w.asked
		return !w.asked
	}
}

// readable returns net.ErrClosed, wrapped, once the socket is closed.
func (w *waiter) readable() error {
	w.asked = false
	return w.raw.Read(w.poll)
}

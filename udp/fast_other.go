//go:build !linux

package udp

// newFastConn returns nil: there is only the plain path.
func newFastConn(socket, bool) Conn { return nil }

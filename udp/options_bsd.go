//go:build darwin || freebsd

package udp

import "golang.org/x/sys/unix"

// setOptions sets buffers, hop limit and don't-fragment. A system that refuses
// one of them is put up with.
func (s *socket) setOptions() error {
	s.setBuffers()
	return s.control(func(fd int) error {
		if s.local.Addr().Is4() {
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, defaultTTL)
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_DONTFRAG, 1)
		} else {
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, defaultTTL)
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1)
		}
		return nil
	})
}

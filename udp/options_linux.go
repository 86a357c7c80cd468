package udp

import "golang.org/x/sys/unix"

// setOptions sets buffers, hop limit and don't-fragment. A system that refuses
// one of them is put up with.
func (s *socket) setOptions() error {
	s.setBuffers()
	return s.control(func(fd int) error {
		// With CAP_NET_ADMIN these pass net.core.rmem_max and wmem_max.
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer)
		if s.local.Addr().Is4() {
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, defaultTTL)
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		} else {
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, defaultTTL)
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
		}
		return nil
	})
}

package udp

import "golang.org/x/sys/windows"

// Options of ws2ipdef.h that package windows does not name.
const (
	ipDontFragment   = 14
	ipv6DontFragment = 14
)

// setOptions sets buffers, hop limit and don't-fragment. A system that refuses
// one of them is put up with.
func (s *socket) setOptions() error {
	s.setBuffers()
	return s.control(func(fd int) error {
		h := windows.Handle(fd)
		if s.local.Addr().Is4() {
			windows.SetsockoptInt(h, windows.IPPROTO_IP, windows.IP_TTL, defaultTTL)
			windows.SetsockoptInt(h, windows.IPPROTO_IP, ipDontFragment, 1)
		} else {
			windows.SetsockoptInt(h, windows.IPPROTO_IPV6, windows.IPV6_UNICAST_HOPS, defaultTTL)
			windows.SetsockoptInt(h, windows.IPPROTO_IPV6, ipv6DontFragment, 1)
		}
		return nil
	})
}

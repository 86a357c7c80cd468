package udp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
)

// Default is this machine's network with everything that it offers.
var Default Network = Machine{}

// Machine is this machine's network. The zero value is ready for use and is
// what [Default] holds. A value; copy freely.
type Machine struct {
	// NoOffload keeps segmentation and receive offload (UDP_SEGMENT and
	// UDP_GRO, Linux) off. The environment variable WARREN_NO_OFFLOAD=1 does
	// the same for the whole process.
	NoOffload bool
	// Plain selects the portable path, one system call for each datagram,
	// which is all there is on systems other than Linux.
	Plain bool
}

// Listen binds a socket. An IPv4 address opens an IPv4 socket; an IPv6 address
// opens a socket for IPv6 only, so that both families may hold the same port.
// The zero AddrPort is 0.0.0.0:0.
func (m Machine) Listen(addr netip.AddrPort) (Conn, error) {
	if !addr.Addr().IsValid() {
		addr = netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port())
	}
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	network := "udp4"
	if addr.Addr().Is6() {
		network = "udp6"
	}
	c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, fmt.Errorf("udp: %w", err)
	}
	conn, err := m.wrap(c)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("udp: %w", err)
	}
	return conn, nil
}

// wrap sets the options of a fresh socket and chooses its path.
func (m Machine) wrap(c *net.UDPConn) (Conn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	local := c.LocalAddr().(*net.UDPAddr).AddrPort()
	s := socket{c: c, raw: raw, local: netip.AddrPortFrom(local.Addr().Unmap(), local.Port())}
	if err := s.setOptions(); err != nil {
		return nil, err
	}
	if !m.Plain {
		offload := !m.NoOffload && os.Getenv("WARREN_NO_OFFLOAD") != "1"
		if conn := newFastConn(s, offload); conn != nil {
			return conn, nil
		}
	}
	return newPlainConn(s), nil
}

// Addrs lists the unicast addresses of this machine's interfaces that are up.
// Link-local IPv6 addresses bear the interface's name as zone.
func (m Machine) Addrs() ([]netip.Addr, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("udp: %w", err)
	}
	var out []netip.Addr
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		for _, a := range addrs {
			p, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			ip, ok := netip.AddrFromSlice(p.IP)
			if !ok || ip.IsMulticast() {
				continue
			}
			ip = ip.Unmap()
			if ip.Is6() && ip.IsLinkLocalUnicast() {
				ip = ip.WithZone(i.Name)
			}
			out = append(out, ip)
		}
	}
	return out, nil
}

// Watch implements [Network].
func (m Machine) Watch(ctx context.Context) <-chan struct{} { return watch(ctx) }

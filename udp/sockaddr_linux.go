package udp

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peer turns a socket address into the form that Datagram has.
func (c *fastConn) peer(sa *unix.RawSockaddrInet6) netip.AddrPort {
	if c.is4 {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), swap(sa.Port))
	}
	a := netip.AddrFrom16(sa.Addr)
	if sa.Scope_id != 0 {
		a = a.WithZone(c.zones.name(sa.Scope_id))
	}
	return netip.AddrPortFrom(a, swap(sa.Port))
}

// sockaddr writes peer as a socket address and returns its size. It reports
// false when peer is not of the socket's family.
func (c *fastConn) sockaddr(sa *unix.RawSockaddrInet6, peer netip.AddrPort) (size int, ok bool) {
	a := peer.Addr()
	if c.is4 {
		if !a.Is4() && !a.Is4In6() {
			return 0, false
		}
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		sa.Family, sa.Port, sa.Addr = unix.AF_INET, swap(peer.Port()), a.As4()
		return unix.SizeofSockaddrInet4, true
	}
	if !a.Is6() || a.Is4In6() {
		return 0, false
	}
	*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: swap(peer.Port()), Addr: a.As16()}
	if zone := a.Zone(); zone != "" {
		sa.Scope_id = c.zones.index(zone)
	}
	return unix.SizeofSockaddrInet6, true
}

// swap turns a port into network byte order and back.
func swap(port uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&port))
	return uint16(b[0])<<8 | uint16(b[1])
}

// zones remembers the names of the interfaces that link-local addresses belong
// to. Safe for concurrent use.
type zones struct {
	mu    sync.Mutex
	names map[uint32]string
}

// maxZones bounds what is remembered; a machine has fewer interfaces.
const maxZones = 256

func (z *zones) name(index uint32) string {
	z.mu.Lock()
	defer z.mu.Unlock()
	if s, ok := z.names[index]; ok {
		return s
	}
	s := strconv.FormatUint(uint64(index), 10)
	if i, err := net.InterfaceByIndex(int(index)); err == nil {
		s = i.Name
	}
	z.learn(index, s)
	return s
}

// index returns 0, which names no interface, when there is none of that name.
func (z *zones) index(name string) uint32 {
	z.mu.Lock()
	defer z.mu.Unlock()
	for i, s := range z.names {
		if s == name {
			return i
		}
	}
	if i, err := net.InterfaceByName(name); err == nil {
		z.learn(uint32(i.Index), name)
		return uint32(i.Index)
	}
	n, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

func (z *zones) learn(index uint32, name string) {
	if z.names == nil || len(z.names) >= maxZones {
		z.names = make(map[uint32]string)
	}
	z.names[index] = name
}

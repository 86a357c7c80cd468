package hyperdht

import (
	"errors"
	"net/netip"
)

func netipPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// notTo is a host's filter that lets nothing pass from or to an address.
func notTo(a netip.Addr) func(local, remote netip.AddrPort) bool {
	return func(_, remote netip.AddrPort) bool { return remote.Addr() != a }
}

func isCause(err, cause error) bool { return errors.Is(err, cause) }

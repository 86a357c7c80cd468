// Package nat knows what NATs do to UDP: the behaviours that RFC 4787 names,
// the classes that HyperDHT peers tell each other, and how a node learns its own
// class and reflexive address from the addresses at which others saw it. It is
// arithmetic only, without a socket, clock, goroutine or lock.
package nat

// Mapping is how a NAT reuses the external address and port of an internal
// socket when that socket sends to another destination (RFC 4787 §4.1).
type Mapping uint8

const (
	// EndpointIndependentMapping uses the same for every destination.
	EndpointIndependentMapping Mapping = iota
	// AddressDependentMapping uses the same for all ports of one address.
	AddressDependentMapping
	// AddressAndPortDependentMapping uses the same for one address and port only;
	// RFC 5128 calls it symmetric.
	AddressAndPortDependentMapping
)

func (m Mapping) String() string { return behaviour(uint8(m)) + " mapping" }

// Filtering is whose datagrams a NAT or a firewall lets in to a socket that has
// sent some (RFC 4787 §5).
type Filtering uint8

const (
	// EndpointIndependentFiltering lets in everybody's.
	EndpointIndependentFiltering Filtering = iota
	// AddressDependentFiltering lets in those from addresses that the socket has
	// sent to.
	AddressDependentFiltering
	// AddressAndPortDependentFiltering lets in those from addresses and ports
	// that the socket has sent to.
	AddressAndPortDependentFiltering
)

func (f Filtering) String() string { return behaviour(uint8(f)) + " filtering" }

func behaviour(n uint8) string {
	switch n {
	case 0:
		return "endpoint-independent"
	case 1:
		return "address-dependent"
	case 2:
		return "address-and-port-dependent"
	}
	return "unknown"
}

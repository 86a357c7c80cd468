package hyperdht

import (
	"net/netip"

	"github.com/warren-dht/warren/compact"
)

// A ConnectAddress names a peer and, if Nodes is not empty, DHT nodes that are
// likely to know it and are asked first (spec §3.9).
type ConnectAddress struct {
	Key   PublicKey
	Nodes []netip.AddrPort
}

// Append writes the address as bytes that the reference reads too: the key, a
// byte of flags, and the nodes. It panics if a node's address is not IPv4.
func (a ConnectAddress) Append(b []byte) []byte {
	b = append(b, a.Key[:]...)
	if len(a.Nodes) == 0 {
		return append(b, 0)
	}
	return compact.AppendAddrs(append(b, 1), a.Nodes)
}

// ParseConnectAddress reads what [ConnectAddress.Append] writes, or a bare key
// of 32 bytes. At most 8 nodes are kept.
func ParseConnectAddress(b []byte) (ConnectAddress, error) {
	r := compact.NewReader(b)
	var a ConnectAddress
	if key := r.Fixed32(); key != nil {
		a.Key = *key
	}
	if len(b) > KeySize && r.Uint()&1 != 0 {
		a.Nodes = readAddrs(&r, maxPayloadRelays)
	}
	if r.Err() != nil {
		return ConnectAddress{}, ErrBadKey
	}
	return a, nil
}

package hyperdht

import (
	"fmt"
	"net/netip"
)

// A PathKind says how two peers reach each other.
type PathKind int

const (
	// PathDirect: one end is open to the world.
	PathDirect PathKind = iota + 1
	// PathLAN: over an address of the local network that both are in.
	PathLAN
	// PathPunched: through NATs that were punched open.
	PathPunched
	// PathRelayed: through a blind relay.
	PathRelayed
)

var pathNames = [...]string{PathDirect: "direct", PathLAN: "lan", PathPunched: "punched", PathRelayed: "relayed"}

// String is "direct", "lan", "punched" or "relayed".
func (k PathKind) String() string {
	if k <= 0 || int(k) >= len(pathNames) {
		return "none"
	}
	return pathNames[k]
}

// MarshalText writes what String returns.
func (k PathKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// A Path is the way that a connection takes: a socket of ours and an address,
// the peer's or, if the path is relayed, the relay's (RFC 9000 §9 uses the
// word likewise).
type Path struct {
	Kind          PathKind
	Local, Remote netip.AddrPort
}

func (p Path) String() string { return fmt.Sprintf("%v %v > %v", p.Kind, p.Local, p.Remote) }

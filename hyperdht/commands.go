package hyperdht

import (
	"golang.org/x/crypto/blake2b"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/internal/sodium"
)

// The commands of HyperDHT, user commands of dht-rpc.
// docs/spec/hyperdht-records.md §2.
const (
	cmdPeerHandshake = 0
	cmdPeerHolepunch = 1
	cmdFindPeer      = 2
	cmdLookup        = 3
	cmdAnnounce      = 4
	cmdUnannounce    = 5
	cmdMutablePut    = 6
	cmdMutableGet    = 7
	cmdImmutablePut  = 8
	cmdImmutableGet  = 9
	cmdPlugin        = 10
)

// The namespaces under which commands sign or hash, so that a signature for one
// is worthless for another. docs/spec/hyperdht-records.md §3.
var (
	nsPeerHandshake = namespace(cmdPeerHandshake)
	nsPeerHolepunch = namespace(cmdPeerHolepunch)
	nsAnnounce      = namespace(cmdAnnounce)
	nsUnannounce    = namespace(cmdUnannounce)
	nsMutablePut    = namespace(cmdMutablePut)
)

func namespace(command byte) [32]byte { return sodium.Namespace("hyperswarm/dht", command) }

// hash is BLAKE2b with 32 bytes of output and no key: what ids, targets and
// immutable records are made of.
func hash(b []byte) [32]byte { return blake2b.Sum256(b) }

// Error numbers that nodes answer a mutable put with.
// docs/spec/hyperdht-records.md §9.
const (
	// SeqReused: the node holds another value with this sequence number.
	SeqReused dhtrpc.ErrorCode = 16
	// SeqTooLow: the node holds a record with a higher sequence number.
	SeqTooLow dhtrpc.ErrorCode = 17
)

package dhtrpc1

import (
	"encoding/binary"
	"errors"

	"github.com/warren-dht/warren/internal/pb"
)

// Commands of dht-rpc itself (docs/spec/dht-rpc-v2.md §6). Every other command
// is the application's.
const (
	commandPing     = "_ping"
	commandFindNode = "_find_node"
)

const (
	headerSize  = 2
	requestFlag = 0x8000 // bit 15 of the header
	tidMask     = 0x7fff
	idSize      = 32
	maxToken    = 64 // tokens are opaque to others; longer ones are ignored (docs/spec/dht-rpc-v2.md §5)
)

// Why a datagram is dropped; counted, never returned to anybody.
var (
	errShort     = errors.New("dhtrpc1: shorter than the header")
	errNoCommand = errors.New("dhtrpc1: request without a command")
)

// A request is the message of a datagram whose bit 15 is set. A nil field is
// absent. The slices of a parsed request alias the datagram.
type request struct {
	tid             uint16
	command         string
	id              []byte // of the sender, 32 bytes; nil when it is ephemeral
	target          []byte // 32 bytes
	forwardRequest  []byte // compact peer: relay this request to it
	forwardResponse []byte // compact peer: this was relayed, answer to it
	token           []byte
	value           []byte
}

// isRequest tells requests from responses; the datagram has a header.
func isRequest(b []byte) bool { return b[0]&0x80 != 0 }

// parseRequest reads a datagram for which isRequest holds. A field that has a
// fixed size and another size here is taken as absent; the forward fields are
// left as they are, because a wrong one makes the whole request void.
//
//	0      1      2
//	+------+------+---------------------------+
//	|1|   tid     | protobuf message Request  |
//	+------+------+---------------------------+
func parseRequest(b []byte) (request, error) {
	if len(b) < headerSize {
		return request{}, errShort
	}
	var f [7][]byte
	if err := pb.Parse(b[headerSize:], f[:]); err != nil {
		return request{}, err
	}
	if f[0] == nil {
		return request{}, errNoCommand
	}
	return request{
		tid:             binary.BigEndian.Uint16(b) & tidMask,
		command:         string(f[0]),
		id:              ofSize(f[1], idSize),
		target:          ofSize(f[2], idSize),
		forwardRequest:  f[3],
		forwardResponse: f[4],
		token:           validToken(f[5]),
		value:           f[6],
	}, nil
}

// Append appends the datagram.
func (r *request) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, r.tid|requestFlag)
	return pb.Append(b, append(make([]byte, 0, 32), r.command...), r.id, r.target,
		r.forwardRequest, r.forwardResponse, r.token, r.value)
}

// A response is the message of a datagram whose bit 15 is clear. A nil field is
// absent. The slices of a parsed response alias the datagram.
type response struct {
	tid   uint16
	id    []byte // of the sender, 32 bytes; nil when it is ephemeral
	nodes []byte // compact nodes, at most 20
	value []byte // the application's; for a _ping a compact peer
	token []byte // for a later closest query
}

// parseResponse reads a datagram for which isRequest does not hold; fields of a
// wrong size are taken as absent.
//
//	0      1      2
//	+------+------+---------------------------+
//	|0|   tid     | protobuf message Response |
//	+------+------+---------------------------+
func parseResponse(b []byte) (response, error) {
	if len(b) < headerSize {
		return response{}, errShort
	}
	var f [4][]byte
	if err := pb.Parse(b[headerSize:], f[:]); err != nil {
		return response{}, err
	}
	return response{
		tid:   binary.BigEndian.Uint16(b) & tidMask,
		id:    ofSize(f[0], idSize),
		nodes: f[1],
		value: f[2],
		token: validToken(f[3]),
	}, nil
}

// Append appends the datagram.
func (r *response) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, r.tid&tidMask)
	return pb.Append(b, r.id, r.nodes, r.value, r.token)
}

// ofSize returns f if it has n bytes, else nil.
func ofSize(f []byte, n int) []byte {
	if len(f) != n {
		return nil
	}
	return f
}

// validToken returns f if it can be a token, else nil.
func validToken(f []byte) []byte {
	if len(f) == 0 || len(f) > maxToken {
		return nil
	}
	return f
}

// Package relay is the blind relay of HyperDHT (docs/spec/secret-stream.md §14):
// two peers that cannot reach each other exchange UDX packets through a third,
// which sees only ciphertext.
//
// Both peers have an encrypted connection to the relay and open a protomux
// channel "blind-relay" on it, whose id is their public key there. They name the
// same token, which they have agreed on elsewhere, and the stream that they want
// relayed; the relay answers with streams of its own:
//
//	pair:   | flags 1: bit 0 initiator | token 32 | stream id (uint) | seq (uint) |
//	unpair: | flags 1 | token 32 |
//
//	initiator's stream <-- packets --> relay's two streams <-- packets --> responder's
//
// Each peer then connects its stream to the relay's at the socket and the
// address of its connection with the relay; the relay's stream connects to
// wherever the first packet comes from.
//
// [Client] asks a relay; [Server] is one.
package relay

import (
	"crypto/rand"
	"errors"

	"github.com/warren-dht/warren/compact"
)

// Protocol is the protomux protocol's name.
const Protocol = "blind-relay"

// MaxMessage is the largest message that either side need accept on the connection
// between a client and a relay, in bytes: the protocol's own have less than 80, and
// a batch of many is smaller than that, too.
const MaxMessage = 64 << 10

// Types of messages.
const (
	typePair   = 0
	typeUnpair = 1
)

// A Token names a pair. Whoever knows it can take the place of either side, or
// cancel; the stream inside is safe from him.
type Token [32]byte

// NewToken draws a token.
func NewToken() (t Token) {
	rand.Read(t[:]) // never fails
	return t
}

var errMessage = errors.New("relay: malformed message")

// pairMessage is the message pair, in both directions.
type pairMessage struct {
	initiator bool // the client's role
	token     Token
	id        uint32 // the sender's UDX stream
	seq       uint64 // always 0, and ignored
}

func (m pairMessage) Append(b []byte) []byte {
	b = compact.AppendBool(b, m.initiator)
	b = append(b, m.token[:]...)
	b = compact.AppendUint(b, uint64(m.id))
	return compact.AppendUint(b, m.seq)
}

func parsePair(b []byte) (m pairMessage, err error) {
	r := compact.NewReader(b)
	m.initiator = readFlags(&r)&1 != 0
	if t := r.Fixed32(); t != nil {
		m.token = *t
	}
	id := r.Uint()
	m.id, m.seq = uint32(id), r.Uint()
	if r.Err() != nil || id > 1<<32-1 {
		return pairMessage{}, errMessage
	}
	return m, nil
}

func appendUnpair(b []byte, t Token) []byte { return append(append(b, 0), t[:]...) }

func parseUnpair(b []byte) (t Token, err error) {
	r := compact.NewReader(b)
	readFlags(&r)
	if f := r.Fixed32(); f != nil {
		return *f, nil
	}
	return t, errMessage
}

// readFlags reads a bit field of one byte. Longer forms are accepted, of which
// the first byte counts.
func readFlags(r *compact.Reader) byte {
	first := r.Fixed(1)
	if first == nil {
		return 0
	}
	n := 0
	switch first[0] {
	case 0xfd:
		n = 2
	case 0xfe:
		n = 4
	case 0xff:
		n = 8
	default:
		return first[0]
	}
	if long := r.Fixed(n); long != nil {
		return long[0]
	}
	return 0
}

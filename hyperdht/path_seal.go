package hyperdht

import (
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"

	"github.com/warren-dht/warren/internal/sodium"
	"github.com/warren-dht/warren/noise"
)

// A pathSeal seals path challenges and their answers, which travel as UDX
// messages beside the stream:
//
//	| counter 8 | secretbox: MAC 16 | kind 1 | nonce 8 |
//
// The secretbox's nonce is the counter and zeros. Each direction has a key of its
// own, from the handshake's secret. A packet with it has 53 bytes, less than three
// times the 20 of the smallest packet that draws one. Safe for concurrent use.
type pathSeal struct {
	send, receive [32]byte
	counter       atomic.Uint64
}

// Kinds of sealed messages.
const (
	pathChallenge byte = 1
	pathAnswer    byte = 2
)

const pathMessageSize = 8 + sodium.SecretboxOverhead + 1 + 8

var (
	nsPathInitiator = sodium.Namespace("warren/paths", 0)
	nsPathResponder = sodium.Namespace("warren/paths", 1)
)

func newPathSeal(res *noise.Result) *pathSeal {
	s := &pathSeal{
		send:    sodium.KeyedSum256(res.Secret[:], nsPathInitiator[:]),
		receive: sodium.KeyedSum256(res.Secret[:], nsPathResponder[:]),
	}
	if !res.Initiator {
		s.send, s.receive = s.receive, s.send
	}
	return s
}

// seal makes a message.
func (s *pathSeal) seal(kind byte, nonce [8]byte) []byte {
	var box [24]byte
	binary.LittleEndian.PutUint64(box[:], s.counter.Add(1))
	plain := append([]byte{kind}, nonce[:]...)
	return sodium.SealSecretbox(append(make([]byte, 0, pathMessageSize), box[:8]...), plain, &box, &s.send)
}

// open reads a message of the peer. It returns false for all else.
func (s *pathSeal) open(b []byte) (kind byte, nonce [8]byte, ok bool) {
	if len(b) != pathMessageSize {
		return 0, nonce, false
	}
	var box [24]byte
	copy(box[:], b[:8])
	plain, ok := sodium.OpenSecretbox(make([]byte, 0, 9), b[8:], &box, &s.receive)
	if !ok {
		return 0, nonce, false
	}
	return plain[0], [8]byte(plain[1:]), true
}

// newPathNonce draws the unpredictable part of a challenge.
func newPathNonce() (n [8]byte) {
	rand.Read(n[:]) // never fails
	return n
}

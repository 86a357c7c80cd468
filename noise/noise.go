// Package noise is the Noise handshake of HyperDHT and its secret streams: the
// patterns IK and XX of the Noise Protocol Framework, revision 34, as
// Noise_IK_Ed25519_ChaChaPoly_BLAKE2b and Noise_XX_Ed25519_ChaChaPoly_BLAKE2b,
// where the Diffie-Hellman function works on the Ed25519 keys that also sign
// (docs/spec/secret-stream.md §3 and §4).
//
// IK, the initiator knows the responder's key beforehand:
//
//	-> | e 32 | static, sealed 48 | payload + 16 |
//	<- | e 32 | payload + 16 |
//
// XX, nobody knows anything:
//
//	-> | e 32 | payload in clear |
//	<- | e 32 | static, sealed 48 | payload + 16 |
//	-> | static, sealed 48 | payload + 16 |
//
// Messages have no length; the carrier frames them. A [HandshakeState] is a
// value: a copy can be tried with one message and dropped.
//
// Left out: the other patterns, pre-shared keys, and the cipher states after
// Split, since secretstream takes the two keys from there.
package noise

import (
	"errors"
	"fmt"
)

// A Pattern is a handshake pattern of the Noise specification, section 7.
type Pattern uint8

// XX transmits both static keys. IK transmits the initiator's; it knows the
// responder's before it starts.
const (
	XX Pattern = iota
	IK
)

// A token is one step of a message, in the specification's words.
type token uint8

const (
	tokenE token = iota
	tokenS
	tokenEE
	tokenES
	tokenSE
	tokenSS
)

// patterns lists the messages, the initiator's first, then in turns.
var patterns = [...]struct {
	name            string
	protocol        string
	responderStatic bool // is a pre-message
	messages        [][]token
}{
	XX: {"XX", "Noise_XX_Ed25519_ChaChaPoly_BLAKE2b", false, [][]token{
		{tokenE},
		{tokenE, tokenEE, tokenS, tokenES},
		{tokenS, tokenSE},
	}},
	IK: {"IK", "Noise_IK_Ed25519_ChaChaPoly_BLAKE2b", true, [][]token{
		{tokenE, tokenES, tokenS, tokenSS},
		{tokenE, tokenEE, tokenSE},
	}},
}

func (p Pattern) String() string {
	if int(p) < len(patterns) {
		return patterns[p].name
	}
	return fmt.Sprintf("Pattern(%d)", uint8(p))
}

// MaxCiphertext is the largest part of a message that is sealed in one piece,
// its 16 bytes of tag included (Noise, section 3; the whole message may exceed
// it by the keys in front).
const MaxCiphertext = 65535

// Errors of a handshake. Whatever is wrong with a received message, a failed
// one is all there is to say.
var (
	ErrMessage  = errors.New("noise: invalid handshake message")
	ErrTooLarge = errors.New("noise: payload too large")
	ErrOrder    = errors.New("noise: handshake message out of turn")
)

// A Config says who shakes hands and how.
type Config struct {
	Pattern   Pattern
	Initiator bool
	// Prologue is data that both sides must agree on; it may be empty.
	Prologue []byte
	// Static is this side's identity.
	Static StaticKey
	// RemoteStatic is the responder's key. Only the initiator of IK has it.
	RemoteStatic PublicKey
	// Ephemeral replaces the random ephemeral key in tests with known
	// outcomes. It must be nil otherwise: using it twice reveals everything.
	Ephemeral *KeyPair
}

// A HandshakeState is a handshake in progress, section 5.3 of the Noise
// specification. It is a value: a copy continues from the same point, which
// lets an initiator try several replies to its one first message. Of the
// copies of a state only one may write the next message, unless the message
// starts with a fresh ephemeral key. Not safe for concurrent use.
type HandshakeState struct {
	symmetricState
	pattern   Pattern
	initiator bool
	next      int // index of the message to be written or read now

	s         StaticKey
	e         KeyPair // zero until it is sent, or injected
	injectedE bool
	rs, re    point // zero until they are received
}

// Initialize starts a handshake. It fails if the remote static key that IK's
// initiator must give is not a valid point.
func Initialize(cfg Config) (HandshakeState, error) {
	p := patterns[cfg.Pattern]
	hs := HandshakeState{pattern: cfg.Pattern, initiator: cfg.Initiator, s: cfg.Static}
	if cfg.Ephemeral != nil {
		hs.e, hs.injectedE = *cfg.Ephemeral, true
	}
	hs.initializeSymmetric(p.protocol)
	hs.mixHash(cfg.Prologue)
	if p.responderStatic {
		responder := cfg.Static.PublicKey()
		if cfg.Initiator {
			responder = cfg.RemoteStatic
			rs, err := parsePoint(responder)
			if err != nil {
				return HandshakeState{}, err
			}
			hs.rs = rs
		}
		hs.mixHash(responder[:])
	}
	return hs, nil
}

// myTurn says whether this side writes the next message.
func (hs *HandshakeState) myTurn() bool { return (hs.next%2 == 0) == hs.initiator }

// Finished reports whether all messages are written and read.
func (hs *HandshakeState) Finished() bool { return hs.next == len(patterns[hs.pattern].messages) }

// WriteMessage appends the next handshake message with the payload to dst. The
// payload of XX's first message travels in clear. If it fails the state stays
// as it was.
func (hs *HandshakeState) WriteMessage(dst, payload []byte) ([]byte, error) {
	if hs.Finished() || !hs.myTurn() {
		return nil, ErrOrder
	}
	if len(payload) > MaxCiphertext-tagSize {
		return nil, ErrTooLarge
	}
	now := *hs
	for _, t := range patterns[now.pattern].messages[now.next] {
		switch t {
		case tokenE:
			if !now.injectedE {
				now.e = GenerateKeyPair()
			}
			now.mixHash(now.e.Public[:])
			dst = append(dst, now.e.Public[:]...)
		case tokenS:
			s := now.s.PublicKey()
			dst = now.encryptAndHash(dst, s[:])
		default:
			if err := now.mixDH(t); err != nil {
				return nil, err
			}
		}
	}
	dst = now.encryptAndHash(dst, payload)
	now.next++
	*hs = now
	return dst, nil
}

// ReadMessage takes the other side's next handshake message and appends its
// payload to dst. If the message is not valid the state stays as it was, so
// another message may be tried in its place.
func (hs *HandshakeState) ReadMessage(dst, message []byte) ([]byte, error) {
	if hs.Finished() || hs.myTurn() {
		return nil, ErrOrder
	}
	now := *hs
	for _, t := range patterns[now.pattern].messages[now.next] {
		switch t {
		case tokenE:
			if len(message) < len(PublicKey{}) {
				return nil, ErrMessage
			}
			e := PublicKey(message[:len(PublicKey{})])
			message = message[len(e):]
			now.mixHash(e[:])
			re, err := parsePoint(e)
			if err != nil {
				return nil, ErrMessage
			}
			now.re = re
		case tokenS:
			const size = len(PublicKey{}) + tagSize // XX and IK always have a key here
			if len(message) < size {
				return nil, ErrMessage
			}
			var buf [len(PublicKey{})]byte
			s, ok := now.decryptAndHash(buf[:0], message[:size])
			if !ok {
				return nil, ErrMessage
			}
			message = message[size:]
			rs, err := parsePoint(PublicKey(s))
			if err != nil {
				return nil, ErrMessage
			}
			now.rs = rs
		default:
			if err := now.mixDH(t); err != nil {
				return nil, ErrMessage
			}
		}
	}
	dst, ok := now.decryptAndHash(dst, message)
	if !ok {
		return nil, ErrMessage
	}
	now.next++
	*hs = now
	return dst, nil
}

// mixDH mixes in the secret that a token names. The first letter is the
// initiator's key, the second the responder's.
func (hs *HandshakeState) mixDH(t token) error {
	var local StaticKey = hs.e
	if t == tokenSS || (t == tokenSE && hs.initiator) || (t == tokenES && !hs.initiator) {
		local = hs.s
	}
	remote := &hs.re
	if t == tokenSS || (t == tokenES && hs.initiator) || (t == tokenSE && !hs.initiator) {
		remote = &hs.rs
	}
	shared, err := dh(local, remote)
	if err != nil {
		return err
	}
	hs.mixKey(shared[:])
	return nil
}

// RemoteStatic returns the other side's static key, and false while it is not
// known. Whether the other side holds it is certain only when the handshake is
// finished.
func (hs *HandshakeState) RemoteStatic() (PublicKey, bool) {
	return hs.rs.key, hs.rs.key != PublicKey{} // zero is a point of order 4
}

// A Result is what a finished handshake leaves: the input of a secret stream.
// It is a value; it holds secrets.
type Result struct {
	Initiator bool
	// Tx and Rx are the keys for sending and receiving.
	Tx, Rx [32]byte
	// Secret is a third key, the same on both sides, for what goes on beside the
	// stream. It is known to the two ends alone, as Tx and Rx are, while Hash can
	// be computed from what is on the wire.
	Secret [32]byte
	// Hash is the handshake hash, the same on both sides and on no other
	// connection. It is public: an observer of both messages can compute it.
	Hash [64]byte
	// PublicKey and RemotePublicKey are the static keys.
	PublicKey, RemotePublicKey PublicKey
}

// Split ends the handshake. It fails with ErrOrder before the last message.
func (hs *HandshakeState) Split() (Result, error) {
	if !hs.Finished() {
		return Result{}, ErrOrder
	}
	r := Result{
		Initiator:       hs.initiator,
		Hash:            hs.h,
		PublicKey:       hs.s.PublicKey(),
		RemotePublicKey: hs.rs.key,
	}
	o1, o2, o3 := hkdf3(&hs.ck, nil)
	r.Tx, r.Rx, r.Secret = [32]byte(o1[:32]), [32]byte(o2[:32]), [32]byte(o3[:32])
	if !hs.initiator {
		r.Tx, r.Rx = r.Rx, r.Tx
	}
	return r, nil
}

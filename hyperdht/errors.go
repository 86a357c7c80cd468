package hyperdht

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// A Cause is one of the known reasons for which a connection fails. Its code is
// the one that the reference implementation uses.
type Cause struct {
	code, text string
	kind       *Cause // what it is a case of
}

// Code is the reference's name for the cause, such as "PEER_NOT_FOUND".
func (c *Cause) Code() string { return c.code }

func (c *Cause) Error() string { return "hyperdht: " + c.text }

// Is reports whether target is the cause, or what it is a case of.
func (c *Cause) Is(target error) bool {
	for ; c != nil; c = c.kind {
		if error(c) == target {
			return true
		}
	}
	return false
}

// The causes, for errors.Is. In the reference everything that happens once
// punching has begun is HOLEPUNCH_ABORTED; here the real cause is told, and is
// ErrHolepunchAborted too (spec §5.8, §12).
var (
	// ErrPeerNotFound: nobody on the way to its target knows the peer.
	ErrPeerNotFound = &Cause{code: "PEER_NOT_FOUND", text: "peer not found: nobody has announced that key"}
	// ErrPeerConnectionFailed: relays for the peer were found, but it answered
	// through none of them: it is gone, or refuses us.
	ErrPeerConnectionFailed = &Cause{code: "PEER_CONNECTION_FAILED", text: "peer did not answer: it is gone, or refuses this key"}
	// ErrHandshakeInvalid: what the peer answered is no handshake.
	ErrHandshakeInvalid = &Cause{code: "HANDSHAKE_INVALID", text: "peer's handshake is not valid"}
	// ErrServerIncompatible: the peer speaks another version.
	ErrServerIncompatible = &Cause{code: "SERVER_INCOMPATIBLE", text: "peer speaks another version of the protocol"}
	// ErrServerError: the peer answered with an error.
	ErrServerError = &Cause{code: "SERVER_ERROR", text: "peer answered with an error"}
	// ErrCannotHolepunch: there is no path, and the peer offers no punching.
	ErrCannotHolepunch = &Cause{code: "CANNOT_HOLEPUNCH", text: "peer is firewalled and offers no hole punching"}
	// ErrHolepunchAborted: hole punching did not lead to a connection.
	ErrHolepunchAborted = &Cause{code: "HOLEPUNCH_ABORTED", text: "hole punching came to nothing"}

	ErrHolepunchInvalid      = &Cause{code: "HOLEPUNCH_INVALID", text: "peer's hole punching message is not valid", kind: ErrHolepunchAborted}
	ErrHolepunchProbeTimeout = &Cause{code: "HOLEPUNCH_PROBE_TIMEOUT", text: "hole punching: a side could not learn its own address", kind: ErrHolepunchAborted}
	ErrHolepunchDoubleRandom = &Cause{code: "HOLEPUNCH_DOUBLE_RANDOMIZED_NATS", text: "hole punching: both NATs choose random ports; only a relay helps", kind: ErrHolepunchAborted}
	ErrRemoteAborted         = &Cause{code: "REMOTE_ABORTED", text: "hole punching: peer aborted it", kind: ErrHolepunchAborted}
	ErrRemoteNotPunching     = &Cause{code: "REMOTE_NOT_HOLEPUNCHING", text: "hole punching: peer does not take part", kind: ErrHolepunchAborted}
	ErrRemoteNotPunchable    = &Cause{code: "REMOTE_NOT_HOLEPUNCHABLE", text: "hole punching: no address of the peer is proven", kind: ErrHolepunchAborted}
	ErrPunchThrottled        = &Cause{code: "HOLEPUNCH_ABORTED", text: "hole punching: another random punch of this node has just run", kind: ErrHolepunchAborted}
	ErrPunchRefused          = &Cause{code: "HOLEPUNCH_ABORTED", text: "hole punching: refused by our own Holepunch function", kind: ErrHolepunchAborted}

	// ErrRelayAborted: the blind relay did not pair us with the peer.
	ErrRelayAborted = &Cause{code: "RELAY_ABORTED", text: "relay did not connect us to the peer"}
	// ErrSuspended: the node is suspended.
	ErrSuspended = &Cause{code: "SUSPENDED", text: "node is suspended"}
	// ErrClosed: the node is closed.
	ErrClosed = &Cause{code: "NODE_DESTROYED", text: "node is closed"}
	// ErrKeyPairInUse: the node listens on that key already.
	ErrKeyPairInUse = &Cause{code: "KEYPAIR_ALREADY_USED", text: "this node listens on that key already"}
	// ErrDuplicateConnection: a pool keeps another connection to the same key.
	ErrDuplicateConnection = &Cause{code: "DUPLICATE_CONNECTION", text: "another connection to the same key was kept"}
	// ErrPathLost: the stream was attached to a path on which the peer was
	// never heard.
	ErrPathLost = &Cause{code: "ETIMEDOUT", text: "a path was chosen, but the peer was not heard on it"}

	errDisplaced      = errors.New("hyperdht: another handshake needed the slot")
	errPanicked       = errors.New("hyperdht: the application's function panicked")
	errTooManyConns   = errors.New("hyperdht: as many connections as the listener allows are open")
	errTooManySockets = errors.New("hyperdht: too many sockets are open for punching")
)

// A ConnectError is why a dial failed: what was tried, phase by phase. errors.Is
// finds the [Cause], and the context's error if it ended the dial.
type ConnectError struct {
	Key PublicKey
	// Asked is how many DHT nodes were asked for the peer, and Found whether
	// one of them knows it.
	Asked int
	Found bool
	// Handshakes lists the relays through which the handshake was tried, in
	// the order in which they ended.
	Handshakes []HandshakeAttempt
	// Answered is set when the handshake was answered: then the rest is about
	// the path.
	Answered bool
	// Paths lists the ways that were tried.
	Paths []PathAttempt
	// Punch is what hole punching did, if it was tried.
	Punch *PunchReport
	// Elapsed is how long the dial took.
	Elapsed time.Duration
	// Err is the cause.
	Err error
}

// A HandshakeAttempt is one try to reach a peer through a relay. Err is nil if
// it was answered.
type HandshakeAttempt struct {
	Relay netip.AddrPort
	Err   error
}

// A PathAttempt is one way that was tried to reach a peer whose handshake is
// done. Err is nil for the way that led there.
type PathAttempt struct {
	Kind PathKind
	Addr netip.AddrPort // the peer's, if it is known
	Err  error
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// Error tells on one line what was tried.
func (e *ConnectError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "hyperdht: connecting to %s…: %s", e.Key.String()[:12], strings.TrimPrefix(oneLine(e.Err), "hyperdht: "))
	say := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	switch {
	case !e.Found && len(e.Handshakes) == 0:
		say(" (asked %d nodes", e.Asked)
	case e.Found:
		say(" (peer found; handshake")
	default:
		say(" (handshake")
	}
	for i, h := range e.Handshakes {
		sep := ";"
		if i == 0 {
			sep = ""
		}
		say("%s via %v: %s", sep, h.Relay, outcome(h.Err, "answered"))
	}
	for _, p := range e.Paths {
		say("; %v path", p.Kind)
		if p.Addr.IsValid() {
			say(" %v", p.Addr)
		}
		say(": %s", outcome(p.Err, "taken"))
	}
	if p := e.Punch; p != nil {
		say("; NAT here %v, there %v, %d punches sent, %d heard", p.Local, p.Remote, p.Sent, p.Heard)
	}
	say("; %v)", e.Elapsed.Round(time.Millisecond))
	return b.String()
}

// oneLine is an error's text without line breaks, as joined errors have some.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func outcome(err error, ok string) string {
	if err == nil {
		return ok
	}
	s := oneLine(err)
	if i := strings.LastIndex(s, ": "); i >= 0 && !errors.As(err, new(*Cause)) {
		s = s[i+2:]
	}
	return strings.TrimPrefix(strings.TrimPrefix(s, "hyperdht: "), "dhtrpc: ")
}

package dhtrpc

import (
	"errors"
	"fmt"
)

// Errors of requests and queries. What a request was and whom it asked is
// wrapped around them; use errors.Is.
var (
	// ErrTimeout: all transmissions of a request went unanswered.
	ErrTimeout = errors.New("dhtrpc: request timed out")
	// ErrClosed: the node is closed.
	ErrClosed = errors.New("dhtrpc: node is closed")
	// ErrSuspended: the node is suspended.
	ErrSuspended = errors.New("dhtrpc: node is suspended")
	// ErrSessionClosed: the request's session was closed without a reason.
	ErrSessionClosed = errors.New("dhtrpc: session is closed")
	// ErrBusy: as many requests are in flight as there can be (32,768).
	ErrBusy = errors.New("dhtrpc: too many requests in flight")
	// ErrTooLarge: a message does not fit a datagram (2,048 bytes), or a reply
	// to an unverified requester is above Config.MaxReply.
	ErrTooLarge = errors.New("dhtrpc: message too large")
	// ErrAnswered: a request was answered already.
	ErrAnswered = errors.New("dhtrpc: request is answered already")
	// ErrBadAddress: not an IPv4 address with a port, which is all that the
	// protocol can address.
	ErrBadAddress = errors.New("dhtrpc: not an IPv4 address with a port")
	// ErrTooFewNodes: a query with a commit found no node to commit to. Only
	// persistent nodes count; a network whose nodes are all ephemeral has none.
	ErrTooFewNodes = errors.New("dhtrpc: too few nodes responded: no persistent node answered")
	// ErrNoToken: a node among the closest gave no token to commit with.
	ErrNoToken = errors.New("dhtrpc: no token received for closest node")
	// ErrDelayTooLong: a delayed ping would wait longer than Config.MaxPingDelay.
	ErrDelayTooLong = errors.New("dhtrpc: delay is above the maximum")
)

// An ErrorCode is the error number in a reply. As an error it says that the
// peer refused; the request itself succeeded. Numbers from 16 up belong to the
// application (docs/spec/dht-rpc.md §4).
type ErrorCode uint64

// Error numbers of the protocol itself.
const (
	// OK is the absence of an error.
	OK ErrorCode = 0
	// UnknownCommand: the peer does not know the command.
	UnknownCommand ErrorCode = 1
	// InvalidToken: the peer did not issue the token to this address, or did so
	// too long ago (tokens live 7.5 to 15 s). The reply holds a fresh one.
	InvalidToken ErrorCode = 2
)

// Error names the codes of the protocol and numbers the others.
func (c ErrorCode) Error() string {
	switch c {
	case OK:
		return "dhtrpc: ok"
	case UnknownCommand:
		return "dhtrpc: peer says: unknown command"
	case InvalidToken:
		return "dhtrpc: peer says: invalid token"
	}
	return fmt.Sprintf("dhtrpc: peer says: error %d", uint64(c))
}

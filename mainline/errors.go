package mainline

import (
	"errors"
	"fmt"
)

// What goes wrong on this side.
var (
	// ErrClosed is what everything returns once the node is closed.
	ErrClosed = errors.New("mainline: node closed")
	// ErrTimeout says that a node did not answer.
	ErrTimeout = errors.New("mainline: no answer")
	// ErrNoNodes says that no node was found that could store.
	ErrNoNodes = errors.New("mainline: no nodes to store at")
	// ErrNotStored says that nodes were asked to store and none did.
	ErrNotStored = errors.New("mainline: no node stored it")
	// ErrNotFound says that no node had a valid value.
	ErrNotFound = errors.New("mainline: not found")
	// ErrUnexpectedID says that a node answered with another id than it was
	// known by.
	ErrUnexpectedID = errors.New("mainline: another node answered")
	// ErrBootstrap says that no bootstrap address could be resolved.
	ErrBootstrap = errors.New("mainline: no bootstrap node can be resolved")
	// ErrBusy says that too many queries are under way.
	ErrBusy = errors.New("mainline: too many queries in flight")
)

// A Code is the number in a KRPC error.
type Code int

// The codes of BEP 5 and BEP 44 (docs/spec/mainline.md §7).
const (
	CodeGeneric       Code = 201
	CodeServer        Code = 202
	CodeProtocol      Code = 203 // malformed, missing argument, bad token
	CodeUnknownMethod Code = 204
	CodeValueTooBig   Code = 205
	CodeBadSignature  Code = 206
	CodeSaltTooBig    Code = 207
	CodeCASMismatch   Code = 301 // the cas differs from the stored item's seq
	CodeSeqTooLow     Code = 302 // the seq is lower than the stored item's
	CodeNoVerifier    Code = 400 // bittorrent-dht without a verify function
)

// An Error is what a node replied instead of a result.
type Error struct {
	Code Code
	Text string // as the node sent it, at most 256 bytes
}

func (e *Error) Error() string {
	return fmt.Sprintf("mainline: error %d from the node: %q", int(e.Code), e.Text)
}

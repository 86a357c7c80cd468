package udx

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// A streamError is one of a stream's errors. It is what its message says, and
// for errors.Is also the error that package net or syscall has for the case.
type streamError struct {
	text    string
	as      []error
	timeout bool
}

func (e *streamError) Error() string { return e.text }

// Is reports whether e stands for target.
func (e *streamError) Is(target error) bool {
	for _, a := range e.as {
		if a == target {
			return true
		}
	}
	return false
}

// Timeout reports whether the error is a timeout, as net.Error has it.
func (e *streamError) Timeout() bool { return e.timeout }

// Temporary reports false; it makes the error a net.Error.
func (e *streamError) Temporary() bool { return false }

var (
	errReset      = &streamError{text: "udx: stream destroyed by peer", as: []error{syscall.ECONNRESET}}
	errTimedOut   = &streamError{text: "udx: peer does not answer", as: []error{syscall.ETIMEDOUT}, timeout: true}
	errGap        = &streamError{text: "udx: peer left a gap in its data open", as: []error{syscall.ETIMEDOUT}, timeout: true}
	errDestroyed  = &streamError{text: "udx: stream destroyed", as: []error{net.ErrClosed}}
	errLinger     = &streamError{text: "udx: peer did not finish in time after close", as: []error{net.ErrClosed}, timeout: true}
	errSocket     = &streamError{text: "udx: socket closed", as: []error{net.ErrClosed}}
	errRelayIdle  = &streamError{text: "udx: relayed stream is idle", timeout: true}
	errWriteEnd   = &streamError{text: "udx: write after end", as: []error{syscall.EPIPE, io.ErrClosedPipe}}
	errNotHere    = errors.New("udx: stream is over, or of another mux")
	errRelayed    = errors.New("udx: stream is relayed")
	errDeadline   = os.ErrDeadlineExceeded
	errBadAddress = errors.New("udx: invalid address")
)

// Errors of a stream's set-up.
var (
	// ErrIDInUse is returned for a stream id that an open stream has.
	ErrIDInUse = errors.New("udx: stream id in use")
	// ErrConnected is returned by Connect on a connected stream.
	ErrConnected = errors.New("udx: stream is connected")
	// ErrNotConnected is returned by what needs a connected stream.
	ErrNotConnected = errors.New("udx: stream is not connected")
	// ErrMessageTooLong is returned by SendMessage.
	ErrMessageTooLong = errors.New("udx: message too long")
	// ErrMuxClosed is returned by NewStream after Close. It is net.ErrClosed
	// for errors.Is.
	ErrMuxClosed error = &streamError{text: "udx: mux closed", as: []error{net.ErrClosed}}
)

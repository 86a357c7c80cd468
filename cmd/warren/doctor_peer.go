package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/warren-dht/warren/hyperdht"
)

// peer dials the key that was given, and tells what that did.
func (p *patient) peer(ctx context.Context) (finding, error) {
	var punch atomic.Pointer[punchFacts] // a punch may go on when a faster way is taken
	dial := hyperdht.DialConfig{Holepunch: func(a hyperdht.PunchAttempt) bool {
		punch.Store(&punchFacts{Local: a.Local.String(), Remote: a.Remote.String()})
		return true
	}}
	start := time.Now()
	conn, err := p.node.DialWith(ctx, p.key, dial)
	took := time.Since(start)
	if err != nil {
		facts := failedDial(err)
		return finding{detail: facts.phases(), facts: facts, took: took}, fmt.Errorf("%w%s", err, advice(err))
	}
	defer conn.Close()
	path := conn.Path()
	facts := dialFacts{Found: true, Answered: true, Path: path.Kind.String(), Remote: optionalAddr(path.Remote), Ms: ms(took),
		Punch: punch.Load()}
	if facts.Punch == nil && p.examined && (path.Kind == hyperdht.PathPunched || path.Kind == hyperdht.PathRelayed) {
		facts.Punch = &punchFacts{Local: p.diagnosis.Mapping.Class.String()} // the peer's is not told if the first punch got through
	}
	return finding{detail: facts.phases(), facts: facts, took: took}, nil
}

// dialFacts are what a dial did, phase by phase.
type dialFacts struct {
	Cause      string        `json:"cause,omitempty"` // the reference's code
	Asked      int           `json:"asked,omitempty"`
	Found      bool          `json:"found"`
	Handshakes []attemptJSON `json:"handshakes,omitempty"`
	Answered   bool          `json:"answered"`
	Paths      []attemptJSON `json:"paths,omitempty"`
	Punch      *punchFacts   `json:"punch,omitempty"`
	Path       string        `json:"path,omitempty"`
	Remote     *addrJSON     `json:"remoteAddress,omitempty"`
	Ms         millis        `json:"ms"`
}

// An attemptJSON is a relay or a way that was tried.
type attemptJSON struct {
	Path  string    `json:"path,omitempty"`
	At    *addrJSON `json:"at,omitempty"`
	Error string    `json:"error,omitempty"` // empty: it led on
}

type punchFacts struct {
	Local  string `json:"local"` // NAT classes
	Remote string `json:"remote,omitempty"`
	Sent   int    `json:"sent,omitempty"`
	Heard  int    `json:"heard,omitempty"`
}

// failedDial reads what a dial's error tells.
func failedDial(err error) (f dialFacts) {
	if cause := (*hyperdht.Cause)(nil); errors.As(err, &cause) {
		f.Cause = cause.Code()
	}
	e := (*hyperdht.ConnectError)(nil)
	if !errors.As(err, &e) {
		return f
	}
	f.Asked, f.Found, f.Answered, f.Ms = e.Asked, e.Found, e.Answered, ms(e.Elapsed)
	for _, h := range e.Handshakes {
		f.Handshakes = append(f.Handshakes, attemptJSON{At: optionalAddr(h.Relay), Error: errorText(h.Err)})
	}
	for _, p := range e.Paths {
		f.Paths = append(f.Paths, attemptJSON{Path: p.Kind.String(), At: optionalAddr(p.Addr), Error: errorText(p.Err)})
	}
	if p := e.Punch; p != nil {
		f.Punch = &punchFacts{p.Local.String(), p.Remote.String(), p.Sent, p.Heard}
	}
	return f
}

// phases tells in words how far a dial came.
func (f dialFacts) phases() string {
	var steps []string
	say := func(format string, args ...any) { steps = append(steps, fmt.Sprintf(format, args...)) }
	answered := 0
	for _, h := range f.Handshakes {
		if h.Error == "" {
			answered++
		}
	}
	switch {
	case f.Path != "":
		say("%s path to %s:%d in %v", f.Path, f.Remote.Host, f.Remote.Port, time.Duration(float64(f.Ms)*float64(time.Millisecond)).Round(time.Millisecond))
	case !f.Found && len(f.Handshakes) == 0:
		say("none of %d nodes asked knows the key", f.Asked)
	case f.Found:
		say("the key was found")
		fallthrough
	default:
		say("the handshake was answered through %d of %d relays", answered, len(f.Handshakes))
	}
	for _, p := range f.Paths {
		at := ""
		if p.At != nil {
			at = fmt.Sprintf(" to %s:%d", p.At.Host, p.At.Port)
		}
		if p.Error == "" {
			say("%s path%s: taken", p.Path, at)
		} else {
			say("%s path%s: %s", p.Path, at, p.Error)
		}
	}
	if p := f.Punch; p != nil {
		if p.Remote == "" {
			say("NAT here %s", p.Local)
		} else {
			say("NAT here %s, there %s", p.Local, p.Remote)
		}
		if p.Sent > 0 || f.Path == "" {
			say("%d punches sent, %d heard", p.Sent, p.Heard)
		}
	}
	return strings.Join(steps, "; ")
}

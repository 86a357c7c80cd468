//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// A fullDisk takes nothing.
type fullDisk struct{}

var errFull = errors.New("no space left")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

// A result that could not be written is a failure.
func TestResultsThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"version"},
		{"keygen", "--json"},
		{"--help"},
		{"testnet", "--size=2"}, // would go on
	} {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		var errOut bytes.Buffer
		a := &app{stdin: strings.NewReader(""), stdout: fullDisk{}, stderr: &errOut}
		status := a.run(ctx, args)
		if !strings.Contains(errOut.String(), errFull.Error()) || status != statusFailed || ctx.Err() != nil {
			t.Errorf("warren %q: status %d, %v, %s", args, status, ctx.Err(), &errOut)
		}
		cancel()
	}
}

// Where nobody reads what comes out any more, the peer learns at once that the
// connection is over, and long-running commands end.
func TestBrokenPipe(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 5)
	var l struct{ PublicKey string }
	server := n.start("listen", "--echo")
	server.event("listening", &l)

	for name, args := range map[string][]string{
		"connect": n.args("connect", l.PublicKey),
		"node":    n.args("node", "--port", freeUDPPort(t)),
	} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		read.Close()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		cmd := command(ctx, args...)
		var errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = write, &errOut
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		write.Close()
		io.WriteString(stdin, "hello\n") // fails where nobody reads it
		cmd.Wait()
		lines := bufio.NewScanner(&errOut)
		last := ""
		for lines.Scan() {
			last = lines.Text()
		}
		if cmd.ProcessState.ExitCode() != statusFailed || !strings.Contains(last, "broken pipe") {
			t.Errorf("%s: %v, %q", name, cmd.ProcessState, last)
		}
	}
	var closed struct{ Error string }
	server.event("closed", &closed)
	if strings.Contains(closed.Error, "does not answer") {
		t.Errorf("the peer was left alone: %s", closed.Error)
	}
}

// Where the service of listen --to is not there, the peer is refused: it must not
// take the end of the connection for an empty answer.
func TestRefusedService(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 5)
	nobody := listenTCP(t)
	nobody.Close()
	var l struct{ PublicKey string }
	server := n.start("listen", "--allow=any", "--to", nobody.Addr().String())
	server.event("listening", &l)
	if o := n.run("connect", l.PublicKey); o.status != statusFailed || !strings.Contains(o.stderr, `"error"`) {
		t.Errorf("%+v", o)
	}
}

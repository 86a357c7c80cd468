package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newTerminal makes a pseudo-terminal: what the program writes to line can be read
// from screen.
func newTerminal(t *testing.T) (screen, line *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("this system has no pseudo-terminals")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	line, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return screen, line
}

// People at a terminal see that something goes on; NO_COLOR and dumb terminals
// get plain lines, and --json nothing at all. (That pipes get nothing is a part
// of all the other tests.)
func TestTerminal(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		env            string
		args           []string
		shows, animate bool
	}{
		"terminal":  {"TERM=xterm", nil, true, true},
		"no colour": {"NO_COLOR=1", nil, true, false},
		"dumb":      {"TERM=dumb", nil, true, false},
		"json":      {"TERM=xterm", []string{"--json"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			screen, line := newTerminal(t)
			defer screen.Close()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			cmd := command(ctx, append([]string{"mainline", "lookup", hex20, "--host=127.0.0.1", "--bootstrap=127.0.0.1:9"}, tt.args...)...)
			cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=", tt.env)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, line
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line.Close()
			seen, _ := io.ReadAll(screen) // ends with EIO when nobody has the other end
			if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != statusFailed {
				t.Errorf("%v", err)
			}
			text := string(seen)
			if got := strings.Contains(text, "bootstrapping"); got != tt.shows {
				t.Errorf("shows progress: %v\n%q", got, text)
			}
			if got := strings.Count(text, "\r") > strings.Count(text, "\r\n"); got != tt.animate {
				t.Errorf("animates: %v\n%q", got, text)
			}
			if !tt.animate && strings.Contains(text, "\x1b") {
				t.Errorf("escape sequences in %q", text)
			}
			if !strings.Contains(text, "no node answered") || out.Len() != 0 {
				t.Errorf("%q, on stdout %q", text, out.String())
			}
		})
	}
}

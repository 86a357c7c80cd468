package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// onTerminal runs the program with stdout, or stderr, on a terminal, and returns what
// can be seen there.
func onTerminal(t *testing.T, stdout bool, stdin string, args ...string) string {
	t.Helper()
	screen, line := newTerminal(t)
	defer screen.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := command(ctx, args...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	cmd.Stdin = strings.NewReader(stdin)
	var other bytes.Buffer
	if cmd.Stdout, cmd.Stderr = line, &other; !stdout {
		cmd.Stdout, cmd.Stderr = &other, line
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line.Close()
	seen, _ := io.ReadAll(screen) // ends with EIO when nobody has the other end
	if err := cmd.Wait(); err != nil {
		t.Errorf("warren %q: %v\n%s%s", args, err, seen, &other)
	}
	return strings.ReplaceAll(string(seen), "\r\n", "\n") // as the terminal writes newlines
}

// What strangers wrote does not control the terminal that shows it; pipes and files get
// the bytes as they are.
func TestStrangersAtTheTerminal(t *testing.T) {
	t.Parallel()
	const (
		evil  = "Grüße\n\tשלום\x1b]0;title\x07\x1b[31mred\u009b0m\u202egpj\x7f\x9b\r"
		shown = "Grüße\n\tשלום\\x1b]0;title\\x07\\x1b[31mred\\x9b0m\\u202egpj\\x7f\\x9b\\x0d\n"
	)
	n := newTestNetwork(t, 5)
	var put struct{ Hash, Target string }
	runWith(t, evil, append(n.args("put", "-"), "--json")...).decode(t, &put)
	if seen := onTerminal(t, true, "", n.args("get", put.Hash)...); seen != shown {
		t.Errorf("get shows %q, want %q", seen, shown)
	}
	if o := execute(t, n.args("get", put.Hash)...).ok(t); o.stdout != evil {
		t.Errorf("get writes %q into a pipe, want %q", o.stdout, evil)
	}
	const text = "\x1b[2J\u009b0m\u202e\x7f"
	runWith(t, text, append(n.args("put", "-"), "--json")...).decode(t, &put)
	seen := onTerminal(t, true, "", n.args("get", put.Hash, "--json")...)
	if got := (struct{ Value string }{}); strings.ContainsFunc(seen, isControl) {
		t.Errorf("get --json shows %q", seen)
	} else if decode(t, seen, &got); got.Value != text {
		t.Errorf("get --json shows %q, which is %q", seen, got.Value)
	}

	m := start(t, "mainline", "node", "--host=127.0.0.1")
	var at nodeEvent
	m.event("listening", &at)
	mainline := []string{"--host=127.0.0.1", "--bootstrap=" + at.addr()}
	runWith(t, evil, append([]string{"mainline", "put", "-", "--json"}, mainline...)...).decode(t, &put)
	if seen := onTerminal(t, true, "", append([]string{"mainline", "get", put.Target}, mainline...)...); seen != shown {
		t.Errorf("mainline get shows %q, want %q", seen, shown)
	}

	// A connection is a pipe, of which the user has both ends.
	d := n.start("listen", "--echo", "--seed", hex32)
	d.event("listening", nil)
	if seen := onTerminal(t, true, "\x1b[1m", n.args("connect", keyHex)...); seen != "\x1b[1m" {
		t.Errorf("connect shows %q", seen)
	}
}

// Nor do the errors of commands that strangers make listen run.
func TestErrorsOfCommandsAtTheTerminal(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 5)
	screen, line := newTerminal(t)
	defer screen.Close()
	cmd := exec.Command(program, n.args("listen", "--allow=any", "--exec", "cat >&2", "--seed", hex32)...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = line
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line.Close()
	watchdog := time.AfterFunc(limit, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	if lines := newScanner(out); !lines.Scan() || !strings.HasPrefix(lines.Text(), "listening") {
		t.Fatalf("%q", lines.Text())
	}
	go io.Copy(io.Discard, out)
	n.connect("over\x1b[31mred\u202eé", keyHex)
	cmd.Process.Signal(os.Interrupt)
	seen, _ := io.ReadAll(screen)
	cmd.Wait()
	if text := string(seen); !strings.Contains(text, `over\x1b[31mred\u202eé`) || strings.Contains(text, "\x1b") {
		t.Errorf("%q", text)
	}
}

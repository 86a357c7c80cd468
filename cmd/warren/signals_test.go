//go:build unix

package main

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// The first signal asks, the second one ends.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "WARREN_TEST_STUBBORN=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		watchdog := time.AfterFunc(limit, func() { cmd.Process.Kill() })
		defer watchdog.Stop()
		lines := bufio.NewScanner(out)
		for _, want := range []string{"ready", "interrupted"} {
			if !lines.Scan() || lines.Text() != want {
				t.Fatalf("%q, want %q", lines.Text(), want)
			}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
		}
		err = cmd.Wait()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 128+int(signal) {
			t.Errorf("%v: %v", signal, err)
		}
	}
}

// A connection that is interrupted ends at once, even while neither side says
// anything, and with it, at the peer, whatever serves it.
func TestInterruptedConnection(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 5)
	var l struct{ PublicKey string }
	server := n.start("listen", "--allow=any", "--exec", "echo $$; sleep 1000; echo never")
	server.event("listening", &l)
	cmd := command(t.Context(), n.args("connect", l.PublicKey)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := cmd.StdinPipe() // silent
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("no connection")
	}
	shell, err := strconv.Atoi(lines.Text())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(limit, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	cmd.Wait()
	if took := time.Since(start); cmd.ProcessState.ExitCode() != statusFailed || took > 10*time.Second {
		t.Errorf("%v after %v", cmd.ProcessState, took)
	}
	var closed struct{ Error string }
	server.event("closed", &closed)
	if closed.Error == "" {
		t.Error("the peer took it for the end")
	}
	for deadline := time.Now().Add(10 * time.Second); syscall.Kill(-shell, 0) == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the command goes on without a peer")
		}
	}
}

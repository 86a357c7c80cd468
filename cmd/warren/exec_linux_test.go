package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// running is how many processes of a group run: those that only wait for their parent
// to hear of their end do not.
func running(t *testing.T, group int) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(files) == 0 {
		t.Fatalf("no processes: %v", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ") // pid (name) state ppid pgrp
		if f := strings.Fields(rest); len(f) > 2 && f[2] == strconv.Itoa(group) && f[0] != "Z" && f[0] != "X" {
			n++
		}
	}
	return n
}

// A command that does not end when it is asked to is killed, with all that it has
// started, and there are never more commands than connections may be open: a peer that
// comes back again and again does not pile them up.
func TestStubbornCommands(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 5)
	const stubborn = `trap "" TERM; sleep 1000 & echo $$; wait; sleep 1000`
	d := n.start("listen", "--seed", hex32, "--allow=any", "--exec", stubborn, "--max-conns=1")
	d.event("listening", nil)
	last := 0
	for range 3 {
		c, err := n.held()
		if err != nil {
			t.Fatal(err)
		}
		if last != 0 && running(t, last) > 0 {
			t.Error("the last command still runs when the next one begins")
		}
		if last, err = strconv.Atoi(c.first); err != nil || running(t, last) < 2 {
			t.Fatalf("%q: %v, %d processes", c.first, err, running(t, last))
		}
		c.interrupt()
	}
	for deadline := time.Now().Add(limit / 2); running(t, last) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			syscall.Kill(-last, syscall.SIGKILL)
			t.Fatal("what the command has started goes on without a peer")
		}
	}
}

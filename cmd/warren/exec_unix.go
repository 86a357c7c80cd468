//go:build unix

package main

import (
	"os/exec"
	"syscall"
	"time"
)

// together makes a command the head of a process group, and its cancellation a
// SIGTERM to all of it: the shell passes none on to what it runs.
func together(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
}

// endGroup sees to it that nothing is left of a command that was cancelled and
// waited for: what still ignores the SIGTERM after killDelay is killed. It waits as
// long again for what is killed to be gone.
func endGroup(cmd *exec.Cmd) {
	group := -cmd.Process.Pid
	if !groupEnds(group) {
		syscall.Kill(group, syscall.SIGKILL)
		groupEnds(group)
	}
}

// groupEnds waits until a process group is empty, at most killDelay.
func groupEnds(group int) bool {
	const poll = 20 * time.Millisecond
	for range int(killDelay / poll) {
		if syscall.Kill(group, 0) == syscall.ESRCH {
			return true
		}
		time.Sleep(poll)
	}
	return false
}

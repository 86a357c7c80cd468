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
// waited for: what still ignores the SIGTERM after killDelay is killed.
func endGroup(cmd *exec.Cmd) {
	group := -cmd.Process.Pid
	for range int(killDelay / killPoll) {
		if syscall.Kill(group, 0) == syscall.ESRCH {
			return
		}
		time.Sleep(killPoll)
	}
	syscall.Kill(group, syscall.SIGKILL)
}

// killPoll is how often endGroup looks.
const killPoll = 20 * time.Millisecond

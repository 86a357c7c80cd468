//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// together makes a command the head of a process group, and its cancellation a
// SIGTERM to all of it: the shell passes none on to what it runs.
func together(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
}

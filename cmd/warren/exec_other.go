//go:build !unix

package main

import "os/exec"

// together leaves a command as it is: there are no process groups, and its
// cancellation kills it.
func together(*exec.Cmd) {}

// endGroup has nothing to do: there are no process groups.
func endGroup(*exec.Cmd) {}

package main

import (
	"io"
	"runtime"
	"testing"
)

// Stdin is silent only while a read of it waits, not while what it gave is
// written to a slow peer.
func TestActiveReader(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	in := &activeReader{r: r}
	if in.silentSince(in.steps.Load()) {
		t.Error("silent before it was asked")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		in.Read(make([]byte, 9))
	}()
	for in.steps.Load() == 0 {
		runtime.Gosched()
	}
	if step := in.steps.Load(); !in.silentSince(step) || in.silentSince(step-1) {
		t.Error("not silent while it is asked and gives nothing")
	}
	io.WriteString(w, "x")
	<-done
	if in.silentSince(in.steps.Load()) {
		t.Error("silent while what it gave is written")
	}
}

//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A received file can be read by nobody whom the umask keeps out.
func TestReceiveObeysTheUmask(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 5)
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mask, want := range map[string]os.FileMode{"077": 0o600, "022": 0o644} {
		sender := n.start("send", file)
		var e struct{ Key string }
		sender.event("listening", &e)
		args := append([]string{"-c", "umask " + mask + `; exec "$0" "$@"`, program}, n.args("receive", e.Key, "--output", filepath.Join(dir, mask))...)
		if out, err := exec.CommandContext(t.Context(), "sh", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		sender.event("sent", nil)
		sender.done = true // it ends by itself
		if err := sender.cmd.Wait(); err != nil {
			t.Errorf("send: %v", err)
		}
		if info, err := os.Stat(filepath.Join(dir, mask)); err != nil || info.Mode().Perm() != want {
			t.Errorf("umask %s: %v, %v, want %v", mask, info.Mode(), err, want)
		}
	}
}

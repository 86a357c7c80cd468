//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A key file that others can use is taken, with one line of warning.
func TestOpenKeyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	run(t, "keygen", key).ok(t)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(key, link); err != nil {
		t.Fatal(err)
	}
	n := newTestNetwork(t, 5)
	for _, tt := range []struct {
		mode os.FileMode
		args []string
		warn bool
	}{
		{0o600, []string{"put", "--mutable", "--key", key, "x"}, false},
		{0o400, []string{"put", "--mutable", "--key", key, "x"}, false},
		{0o640, []string{"put", "--mutable", "--key", key, "x"}, true},
		{0o604, []string{"put", "--mutable", "--key", key, "x"}, true},
		{0o602, []string{"put", "--mutable", "--key", link, "x"}, true},
		{0o620, []string{"announce", hex32, "--once", "--key", key}, true},
		{0o644, []string{"announce", hex32, "--once", "--key", key, "--log-level=error"}, false},
	} {
		if err := os.Chmod(key, tt.mode); err != nil {
			t.Fatal(err)
		}
		o := n.run(tt.args...)
		if o.status != 0 {
			t.Errorf("mode %o: %+v", tt.mode, o)
		}
		if !tt.warn {
			o.ok(t)
			continue
		}
		var record struct{ Level, Msg, File, Mode string }
		decode(t, o.stderr, &record)
		if strings.Count(o.stderr, "\n") != 1 || record.Level != "WARN" || !strings.Contains(record.Msg, "chmod 600") ||
			!strings.HasPrefix(record.File, dir) || record.Mode != fmt.Sprintf("%04o", tt.mode) {
			t.Errorf("mode %o: %s", tt.mode, o.stderr)
		}
	}
}

// So is a list of who may connect that others can change; it is no secret.
func TestOpenAllowFiles(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "allow")
	if err := os.WriteFile(file, []byte(keyHex+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newTestNetwork(t, 5)
	for mode, warn := range map[os.FileMode]bool{0o644: false, 0o664: true, 0o646: true} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		d := n.start("listen", "--echo", "--allow-file", file)
		d.event("listening", nil)
		d.stop()
		if got := d.stderr.String(); strings.Contains(got, "chmod go-w") != warn || !warn && got != "" {
			t.Errorf("mode %o: %s", mode, got)
		}
	}
}

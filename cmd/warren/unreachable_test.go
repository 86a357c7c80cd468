package main

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// A node that cannot start says why, and what to do.
func TestNodeThatCannotStart(t *testing.T) {
	t.Parallel()
	taken, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	damaged := t.TempDir()
	if err := os.WriteFile(filepath.Join(damaged, "warren.db"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		says []string
	}{
		{[]string{"node", "--host=127.0.0.1", "--port", port}, []string{"127.0.0.1:" + port, "another --port"}},
		{[]string{"listen", "--echo", "--host=203.0.113.7"}, []string{"203.0.113.7", "an address of this machine"}},
		{[]string{"node", "--host=127.0.0.1", "--store", damaged}, []string{damaged, "move it away"}},
		{[]string{"mainline", "node", "--host=127.0.0.1", "--store", damaged}, []string{damaged, "move it away"}},
		{[]string{"node", "--host=127.0.0.1", "--store", program}, []string{program}},
	} {
		o := run(t, tt.args...)
		if o.status != statusFailed || strings.Count(o.stderr, "\n") != 1 || o.stdout != "" {
			t.Errorf("%+v", o)
		}
		for i, s := range tt.says {
			if (i == 0 || runtime.GOOS != "windows") && !strings.Contains(o.stderr, s) {
				t.Errorf("%q does not say %q", o.stderr, s)
			}
		}
	}
}

// Where nobody answers every command fails, with status 1 and one line that
// says who was asked and what may help.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	const nobody = "127.0.0.1:9"
	for name, tt := range map[string]struct {
		args []string
		says []string
	}{
		"ping":            {[]string{"ping", nobody}, []string{nobody, "timed out"}},
		"find":            {[]string{"find", hex32}, []string{"no node answered", nobody, "warren doctor"}},
		"connect":         {[]string{"connect", keyHex}, []string{"no node answered", nobody, "warren doctor"}},
		"get":             {[]string{"get", hex32}, []string{"no node answered", nobody, "warren doctor"}},
		"listen":          {[]string{"listen", "--echo"}, []string{"no node answered", nobody, "warren doctor"}},
		"doctor":          {[]string{"doctor"}, []string{"bootstrap", nobody, "--bootstrap"}},
		"mainline ping":   {[]string{"mainline", "ping", nobody}, []string{nobody}},
		"mainline lookup": {[]string{"mainline", "lookup", hex20}, []string{"no node answered", nobody}},
		"v1 ping":         {[]string{"v1", "ping", nobody}, []string{nobody}},
		"v1 query":        {[]string{"v1", "query", "--command=values", "--target", hex32}, []string{"no nodes responded"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append(tt.args, "--host=127.0.0.1")
			if !strings.Contains(name, "ping") {
				args = append(args, "--bootstrap", nobody)
			}
			o := run(t, args...)
			if o.status != statusFailed || strings.Count(o.stderr, "\n") != 1 {
				t.Errorf("%+v", o)
			}
			for _, s := range tt.says {
				if !strings.Contains(o.stderr, s) {
					t.Errorf("%q does not say %q", o.stderr, s)
				}
			}
			if name == "doctor" && !strings.Contains(o.stdout, "FAILED  Bootstrap nodes: 0 of 1 answer\n") {
				t.Errorf("%q", o.stdout)
			}
		})
	}
}

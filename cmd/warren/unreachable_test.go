package main

import (
	"strings"
	"testing"
)

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

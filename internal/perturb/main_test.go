package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every hooked file is replaced by one in which the hooked functions, and no
// others, give way first.
func TestWrite(t *testing.T) {
	src, dir := t.TempDir(), t.TempDir()
	texts := map[string]string{}
	for _, h := range hooks {
		texts[h.file] += "func " + h.function + "(a func()) bool {\n\treturn false\n}\n\nfunc other() {\n}\n"
	}
	for name, text := range texts {
		name = filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := write(dir, src)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(overlay)
	if err != nil {
		t.Fatal(err)
	}
	var o struct{ Replace map[string]string }
	if err := json.Unmarshal(b, &o); err != nil {
		t.Fatal(err)
	}
	if len(o.Replace) != len(texts)+len(additions) {
		t.Errorf("%d files replaced", len(o.Replace))
	}
	for name, text := range texts {
		got, err := os.ReadFile(o.Replace[filepath.Join(src, name)])
		want := strings.ReplaceAll(text, "bool {\n", "bool {\n\tperturb()\n")
		if err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

func TestHookRefuses(t *testing.T) {
	for _, text := range []string{"", "func f() {\n}\nfunc f() {\n}\n", "func fg() {\n}\n"} {
		if got, err := hook(text, "f"); err == nil {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// Perturb runs go test, with the race detector, on a runtime whose goroutines
// give way at random where they meet: at locks, channels and selects. One in
// eight, drawn anew for each process, is much slower than the others. Tests that
// rely on who comes first fail within minutes instead of once in a thousand
// runs:
//
//	go run ./internal/perturb -count=100 -cpu=1,2,8 ./relay
//
// It changes nothing but what it gives the compiler, by way of an overlay.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
)

// hooks are the functions of the standard library that give way first.
var hooks = []struct{ file, function string }{
	{"sync/mutex.go", "(m *Mutex) Lock"},
	{"sync/mutex.go", "(m *Mutex) Unlock"},
	{"runtime/chan.go", "chansend1"},
	{"runtime/chan.go", "chanrecv1"},
	{"runtime/chan.go", "chanrecv2"},
	{"runtime/chan.go", "closechan"},
	{"runtime/select.go", "selectgo"},
}

// additions are new files of the standard library.
var additions = map[string]string{
	"sync/perturb.go": `package sync

import _ "unsafe"

//go:linkname perturb
func perturb()
`,
	"runtime/perturb.go": `package runtime

import _ "unsafe"

var perturbSeed uint64

func perturb() {
	gp := getg()
	if gp != gp.m.curg || gp.m.locks != 0 || gp.m.mallocing != 0 || !mainStarted {
		return
	}
	if perturbSeed == 0 {
		perturbSeed = uint64(cheaprand()) | 1
	}
	n := uint32(0)
	switch {
	case (gp.goid^perturbSeed)*0x9E3779B97F4A7C15>>61 == 0:
		if cheaprandn(2) == 0 {
			n = cheaprandn(200)
		}
	case cheaprandn(6) == 0:
		n = cheaprandn(8)
	}
	for ; n > 0; n-- {
		Gosched()
	}
}

//go:linkname syncPerturb sync.perturb
func syncPerturb() { perturb() }
`,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:])
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		os.Exit(1) // go test has said why
	case err != nil:
		fmt.Fprintln(os.Stderr, "perturb:", err)
		os.Exit(2)
	}
}

func run(ctx context.Context, args []string) error {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "perturb")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	overlay, err := write(dir, filepath.Join(strings.TrimSpace(string(root)), "src"))
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "go", append([]string{"test", "-race", "-overlay", overlay}, args...)...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	return c.Run()
}

// write fills dir with the changed files of the standard library at src, and the
// overlay that names them.
func write(dir, src string) (overlay string, err error) {
	files := map[string]string{}
	for name, text := range additions {
		files[name] = text
	}
	for _, h := range hooks {
		text, ok := files[h.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(src, h.file))
			if err != nil {
				return "", err
			}
			text = string(b)
		}
		if files[h.file], err = hook(text, h.function); err != nil {
			return "", fmt.Errorf("%s: %w", h.file, err)
		}
	}
	replace := map[string]string{}
	for name, text := range files {
		to := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(src, name)] = to
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o600)
}

// hook makes a function of a file give way first.
func hook(text, function string) (string, error) {
	first := regexp.MustCompile(`(?m)^func ` + regexp.QuoteMeta(function) + `\(.*\{$`)
	at := first.FindAllStringIndex(text, -1)
	if len(at) != 1 {
		return "", fmt.Errorf("%d functions %s, want one; is this version of Go known?", len(at), function)
	}
	end := at[0][1]
	return text[:end] + "\n\tperturb()" + text[end:], nil
}

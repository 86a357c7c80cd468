package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// testTimeout is for one package; the longest takes a minute or two.
const testTimeout = "-timeout=10m"

// unit runs the tests of the main module, except those that have a stage of their
// own.
func unit(r *repo, t *tally) {
	list, err := r.command("go", "list", "-e", "./...").output()
	if err != nil {
		t.check("go list ./...", errors.New(list))
		return
	}
	packages := slices.DeleteFunc(strings.Fields(list), func(p string) bool {
		return strings.HasSuffix(p, "/natlab") || strings.HasSuffix(p, "/lab/attacks")
	})
	c := r.command("go", "test", "-vet=off", testTimeout)
	reason := noRace(r)
	if reason != "" {
		t.skip("the race detector", reason)
	} else {
		c.args = append(c.args, "-race")
		c.env = []string{"CGO_ENABLED=1"}
	}
	c.args = append(c.args, packages...)
	goTest(t, c)
	if reason == "" {
		withoutRace(r, t)
	}
}

// withoutRace runs the tests that the race detector kept from running: those
// that skip themselves because of it, as tests of memory and of allocations do,
// and those in files that are built without it.
func withoutRace(r *repo, t *tally) {
	tests := make(map[string][]string) // by package
	for _, s := range t.take(func(s skip) bool { return strings.Contains(s.reason, "race detector") }) {
		name, _, _ := strings.Cut(s.test, "/")
		tests[s.pkg] = append(tests[s.pkg], name)
	}
	names, err := raceless(r)
	if err != nil {
		t.check("tests that are built without the race detector", err)
	}
	for pkg, more := range names {
		tests[pkg] = append(tests[pkg], more...)
	}
	for _, pkg := range slices.Sorted(maps.Keys(tests)) {
		run := "-run=^(" + strings.Join(slices.Compact(slices.Sorted(slices.Values(tests[pkg]))), "|") + ")$"
		goTest(t, r.command("go", "test", "-vet=off", testTimeout, run, pkg))
	}
}

// noRace says why the race detector cannot run.
func noRace(r *repo) string {
	if runtime.GOOS == "linux" && !slices.Contains([]string{"amd64", "arm64", "ppc64le", "s390x", "riscv64", "loong64"}, runtime.GOARCH) {
		return "it does not know " + runtime.GOARCH
	}
	cc, err := r.command("go", "env", "CC").output()
	if err != nil || cc == "" || !has(strings.Fields(cc)[0]) {
		return "no C compiler (" + cc + ")"
	}
	return ""
}

// modules runs the tests of the other modules, but for those that need the
// live peers.
func modules(r *repo, t *tally) {
	for _, dir := range r.modules() {
		if r.rel(dir) == "interop" {
			continue
		}
		goTest(t, command{dir: dir, args: []string{"go", "test", "-vet=off", testTimeout, "./..."}})
	}
}

// interop installs the peers and runs the conversations with them.
func interop(r *repo, t *tally) {
	dir := filepath.Join(r.root, "interop")
	for _, program := range []string{"node", "npm"} {
		if !has(program) {
			t.skip("the live peers", program+" is not installed")
			return
		}
	}
	if stale(filepath.Join(dir, "node_modules", ".package-lock.json"), filepath.Join(dir, "package-lock.json")) {
		err := command{dir: dir, args: []string{"npm", "ci", "--ignore-scripts"}}.quiet()
		t.check("npm ci", err)
		if err != nil {
			return
		}
	}
	goTest(t, command{dir: dir, args: []string{"go", "test", "-vet=off", testTimeout, "-tags=interop", "./..."}})
}

// stale says whether target is missing or older than source.
func stale(target, source string) bool {
	made, err := os.Stat(target)
	if err != nil {
		return true
	}
	wanted, err := os.Stat(source)
	return err == nil && made.ModTime().Before(wanted.ModTime())
}

// laboratory runs real processes in network namespaces, each pair once.
func laboratory(r *repo, t *tally) {
	dir := filepath.Join(r.root, "natlab")
	if _, err := os.Stat(dir); err != nil {
		return
	}
	if reason := noNamespaces(r, "ip", "nft", "unshare"); reason != "" {
		t.skip("the NAT laboratory", reason)
		return
	}
	goTest(t, command{dir: dir, args: []string{"go", "test", "-vet=off", "-count=1", testTimeout, "./..."}})
}

// attacks runs attack programs against real processes in a network namespace.
func attacks(r *repo, t *tally) {
	if reason := noNamespaces(r, "ip", "unshare"); reason != "" {
		t.skip("the attacks", reason)
		return
	}
	goTest(t, r.command("go", "test", "-vet=off", "-count=1", testTimeout, "./lab/attacks"))
}

// noNamespaces says why network namespaces cannot be made, or which of the
// programs that are needed in them is missing.
func noNamespaces(r *repo, programs ...string) string {
	if runtime.GOOS != "linux" {
		return "it needs Linux"
	}
	if os.Geteuid() != 0 {
		return "not root"
	}
	for _, program := range programs {
		if !has(program) {
			return program + " is not installed"
		}
	}
	if err := r.command("unshare", "--net", "true").quiet(); err != nil {
		return "network namespaces are not allowed here"
	}
	return ""
}

// cross checks every package and its tests for the systems that warren
// supports, and links the program for each.
func cross(r *repo, t *tally) {
	out, err := os.MkdirTemp("", "warren-cross")
	if err != nil {
		t.check("cross", err)
		return
	}
	defer os.RemoveAll(out)
	for _, target := range []string{"linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64", "freebsd/amd64", "android/arm64"} {
		system, arch, _ := strings.Cut(target, "/")
		vet := r.command("go", "vet", "./...")
		vet.env = []string{"CGO_ENABLED=0", "GOOS=" + system, "GOARCH=" + arch}
		link := r.command("go", "build", "-o", out, "./cmd/warren")
		link.env = vet.env
		err := vet.quiet()
		if err == nil {
			err = link.quiet()
		}
		t.check(target, err)
	}
}

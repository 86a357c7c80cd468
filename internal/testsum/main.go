// Command testsum runs the stages that make up a test of the whole repository
// and sums them up. The Makefile calls it; it needs nothing but Go.
//
//	go run ./internal/testsum            every stage of make test
//	go run ./internal/testsum lint unit  these only
//
// A stage that fails does not keep the others from running. What cannot run on
// this machine (the race detector without a C compiler, the live peers without
// node, the laboratory and the attacks without root) is skipped and named at the end, and so is
// every test that skips itself; with WARREN_TEST_ALL=1 a skip is a failure. The
// last line is "N passed, N failed, N skipped": tests without subtests, and one
// for each check of the other stages. The exit status is 0 only if nothing
// failed.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A stage is a named part of the whole.
type stage struct {
	name string
	run  func(*repo, *tally)
}

// stages in the order in which they run. interop comes early because it installs
// the originals, whose documentation a test of the main module reads.
var stages = []stage{
	{"lint", lint},
	{"interop", interop},
	{"unit", unit},
	{"cross", cross},
	{"modules", modules},
	{"laboratory", laboratory},
	{"attacks", attacks},
}

// extra stages run only when they are named.
var extra = []stage{
	{"fuzz", fuzz},
}

func main() {
	chosen, err := choose(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(2)
	}
	root, err := moduleRoot()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(2)
	}
	r := &repo{root: root, all: os.Getenv("WARREN_TEST_ALL") == "1"}
	t := &tally{out: os.Stdout}
	for _, s := range chosen {
		start := time.Now()
		t.stage = s.name
		fmt.Printf("== %s\n", s.name)
		s.run(r, t)
		fmt.Printf("== %s took %s\n\n", s.name, time.Since(start).Round(100*time.Millisecond))
	}
	if !t.report(r.all) {
		os.Exit(1)
	}
}

func choose(names []string) ([]stage, error) {
	if len(names) == 0 {
		return stages, nil
	}
	known := slices.Concat(stages, extra)
	var chosen []stage
	for _, name := range names {
		i := slices.IndexFunc(known, func(s stage) bool { return s.name == name })
		if i < 0 {
			var all []string
			for _, s := range known {
				all = append(all, s.name)
			}
			return nil, fmt.Errorf("no stage %q; there are %s", name, strings.Join(all, ", "))
		}
		chosen = append(chosen, known[i])
	}
	return chosen, nil
}

// moduleRoot is the nearest folder above with a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = up
	}
}

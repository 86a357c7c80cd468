package main

import (
	"fmt"
	"io"
)

// A tally counts what passed, failed and was skipped, and remembers the names
// of the last two.
type tally struct {
	out    io.Writer
	stage  string // running now
	passed int
	failed []string
	skips  []string
}

// check records one check of the running stage.
func (t *tally) check(name string, err error) {
	if err == nil {
		t.pass()
		fmt.Fprintf(t.out, "ok    %s\n", name)
		return
	}
	t.fail(name)
	fmt.Fprintf(t.out, "FAIL  %s: %v\n", name, err)
}

func (t *tally) pass()            { t.passed++ }
func (t *tally) fail(name string) { t.failed = append(t.failed, t.stage+": "+name) }

func (t *tally) skip(name, reason string) {
	t.skips = append(t.skips, fmt.Sprintf("%s: %s: %s", t.stage, name, reason))
}

// report prints the lists and the summary line. It says whether all is well;
// with strict, a skip is not.
func (t *tally) report(strict bool) bool {
	list := func(title string, names []string) {
		if len(names) == 0 {
			return
		}
		fmt.Fprintln(t.out, title)
		for _, name := range names {
			fmt.Fprintf(t.out, "  %s\n", name)
		}
	}
	list("skipped:", t.skips)
	if strict && len(t.skips) > 0 {
		fmt.Fprintln(t.out, "WARREN_TEST_ALL=1: a skip is a failure")
	}
	list("failed:", t.failed)
	fmt.Fprintf(t.out, "%d passed, %d failed, %d skipped\n", t.passed, len(t.failed), len(t.skips))
	return len(t.failed) == 0 && !(strict && len(t.skips) > 0)
}

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
	skips  []skip
}

// A skip is something that did not run.
type skip struct {
	stage, name, reason string
	pkg, test           string // of a test; empty for a part of a stage
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

// skip records that a part of the running stage did not run.
func (t *tally) skip(name, reason string) {
	t.skips = append(t.skips, skip{stage: t.stage, name: name, reason: reason})
}

// skipTest records that a test skipped itself.
func (t *tally) skipTest(pkg, test, reason string) {
	t.skips = append(t.skips, skip{t.stage, pkg + "." + test, reason, pkg, test})
}

// take removes the skipped tests that match and returns them.
func (t *tally) take(match func(skip) bool) []skip {
	var taken, left []skip
	for _, s := range t.skips {
		if s.test != "" && match(s) {
			taken = append(taken, s)
		} else {
			left = append(left, s)
		}
	}
	t.skips = left
	return taken
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
	var skipped []string
	for _, s := range t.skips {
		skipped = append(skipped, s.stage+": "+s.name+": "+s.reason)
	}
	list("skipped:", skipped)
	if strict && len(t.skips) > 0 {
		fmt.Fprintln(t.out, "WARREN_TEST_ALL=1: a skip is a failure")
	}
	list("failed:", t.failed)
	fmt.Fprintf(t.out, "%d passed, %d failed, %d skipped\n", t.passed, len(t.failed), len(t.skips))
	return len(t.failed) == 0 && !(strict && len(t.skips) > 0)
}

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// event is one line of go test -json (go doc test2json, go help buildjson).
type event struct {
	Action     string
	Package    string
	ImportPath string // of a build-output
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

// goTest runs go test -json in a folder and adds its tests to the tally. The
// output of what passes is dropped; the output of what fails is shown.
func goTest(t *tally, c command) {
	c.args = slices.Insert(c.args, 2, "-json")
	stdout, wait, err := c.start()
	if err != nil {
		t.check(c.String(), err)
		return
	}
	failedBefore := len(t.failed)
	read(t, stdout)
	if err := wait(); err != nil && len(t.failed) == failedBefore {
		t.check(c.String(), err) // go test itself failed
	}
}

// run is what is known of one package while its tests run.
type run struct {
	output map[string][]string // by test; "" is the package's own
	result map[string]string   // by test: pass, fail or skip
}

// read takes the events of one go test.
func read(t *tally, r io.Reader) {
	packages := make(map[string]*run)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintf(t.out, "%s\n", lines.Bytes())
			continue
		}
		if e.Action == "build-output" {
			fmt.Fprint(t.out, e.Output)
		}
		if e.Package == "" {
			continue
		}
		p, ok := packages[e.Package]
		if !ok {
			p = &run{output: make(map[string][]string), result: make(map[string]string)}
			packages[e.Package] = p
		}
		switch e.Action {
		case "output":
			p.output[e.Test] = append(p.output[e.Test], e.Output)
		case "pass", "fail", "skip":
			if e.Test == "" {
				p.finish(t, e)
				delete(packages, e.Package)
				continue
			}
			p.result[e.Test] = e.Action
			if e.Action == "fail" {
				fmt.Fprint(t.out, strings.Join(p.output[e.Test], ""))
			}
			if e.Action != "skip" {
				delete(p.output, e.Test)
			}
		}
	}
	for name := range packages { // go test ended in the middle
		t.fail(name + ": no result")
	}
}

// finish counts a package whose last event is e.
func (p *run) finish(t *tally, e event) {
	parents := make(map[string]bool)
	for test := range p.result {
		for i := strings.LastIndexByte(test, '/'); i >= 0; i = strings.LastIndexByte(test[:i], '/') {
			parents[test[:i]] = true
		}
	}
	var tests, failed int
	for _, test := range slices.Sorted(maps.Keys(p.result)) {
		result := p.result[test]
		if parents[test] && result == "pass" {
			continue // its subtests count
		}
		name := e.Package + "." + test
		switch result {
		case "pass":
			t.pass()
		case "skip":
			t.skipTest(e.Package, test, reason(p.output[test]))
		case "fail":
			failed++
			if parents[test] && slices.ContainsFunc(p.under(test), func(s string) bool { return p.result[s] == "fail" }) {
				continue
			}
			t.fail(name)
		}
		tests++
	}
	took := time.Duration(e.Elapsed * float64(time.Second)).Round(10 * time.Millisecond)
	switch {
	case e.Action == "fail":
		if failed == 0 { // it did not build, or died
			t.fail(e.Package)
			for _, test := range slices.Sorted(maps.Keys(p.output)) {
				if test != "" && p.result[test] == "" {
					fmt.Fprint(t.out, strings.Join(p.output[test], ""))
				}
			}
		}
		fmt.Fprint(t.out, strings.Join(p.output[""], ""))
		fmt.Fprintf(t.out, "FAIL  %s  %s\n", e.Package, took)
	case tests > 0:
		fmt.Fprintf(t.out, "ok    %s  %d tests  %s\n", e.Package, tests, took)
	}
}

// under lists the subtests of a test.
func (p *run) under(test string) []string {
	var sub []string
	for s := range p.result {
		if strings.HasPrefix(s, test+"/") {
			sub = append(sub, s)
		}
	}
	return sub
}

var logLine = regexp.MustCompile(`^\s+\S+\.go:\d+: (.*)`)

// reason is the last thing that a skipped test logged.
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		if m := logLine.FindStringSubmatch(line); m != nil {
			return m[1]
		}
	}
	return "no reason given"
}

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// fuzz gives every fuzz target a short round; WARREN_FUZZTIME sets how short.
func fuzz(r *repo, t *tally) {
	rounds := os.Getenv("WARREN_FUZZTIME")
	if rounds == "" {
		rounds = "10s"
	}
	if _, err := time.ParseDuration(rounds); err != nil {
		t.check("WARREN_FUZZTIME", err)
		return
	}
	targets, err := fuzzTargets(r)
	if err == nil && len(targets) == 0 {
		err = errors.New("there is none")
	}
	if err != nil {
		t.check("fuzz targets", err)
		return
	}
	for _, f := range targets {
		c := command{dir: f.dir, args: []string{"go", "test", "-vet=off", "-run=^$", "-fuzz=^" + f.name + "$", "-fuzztime=" + rounds, "."}}
		err := c.quiet()
		if err != nil && timeRanOut(err.Error()) {
			err = nil
		}
		t.check(fmt.Sprintf("%s %s", r.rel(f.dir), f.name), err)
	}
}

// ranOut is what the fuzzer says when its time is over and it takes that for a
// failure, which before Go 1.27 it may (go.dev/issue/75804).
var ranOut = regexp.MustCompile(`(?m)^--- FAIL: Fuzz\w+ \(.*\)\n    context deadline exceeded\nFAIL$`)

// timeRanOut reports whether a fuzz target has failed by nothing but the end of
// its time. An input that fails is written to a file, and the fuzzer names it.
func timeRanOut(said string) bool {
	return ranOut.MatchString(said) && !strings.Contains(said, "Failing input")
}

// A target is a fuzz target.
type target struct {
	dir, name string
}

var fuzzFunc = regexp.MustCompile(`^func (Fuzz\w+)\(\w+ \*testing\.F\)`)

// fuzzTargets finds the fuzz targets of all modules.
func fuzzTargets(r *repo) ([]target, error) {
	files, err := goFiles(r)
	if err != nil {
		return nil, err
	}
	var targets []target
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		path := filepath.Join(r.root, file)
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if m := fuzzFunc.FindStringSubmatch(lines.Text()); m != nil {
				targets = append(targets, target{filepath.Dir(path), m[1]})
			}
		}
		f.Close()
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	return targets, nil
}

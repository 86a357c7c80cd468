package main

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// lint checks the form of every module: gofmt, vet and staticcheck.
func lint(r *repo, t *tally) {
	files, err := goFiles(r)
	if err == nil {
		var said string
		said, err = r.command(append([]string{"gofmt", "-l"}, files...)...).output()
		if err == nil && said != "" {
			err = errors.New("not formatted:\n" + said)
		}
	}
	t.check("gofmt", err)
	staticcheck, err := r.command("go", "tool", "-n", "staticcheck").output()
	if err != nil {
		t.check("staticcheck", errors.New(staticcheck))
		return
	}
	for _, dir := range append([]string{r.root}, r.modules()...) {
		name := r.rel(dir)
		tags := "-tags=interop"
		t.check("vet "+name, command{dir: dir, args: []string{"go", "vet", tags, "./..."}}.quiet())
		t.check("staticcheck "+name, command{dir: dir, args: []string{staticcheck, tags, "./..."}}.quiet())
	}
}

// goFiles lists all Go files of the tree, relative to its root.
func goFiles(r *repo) ([]string, error) {
	var files []string
	err := filepath.WalkDir(r.root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipDir(d.Name()):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, ".go"):
			files = append(files, r.rel(path))
		}
		return nil
	})
	return files, err
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

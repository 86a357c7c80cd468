package main

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

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

var (
	notRace  = regexp.MustCompile(`(?m)^//go:build .*!race\b`)
	testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(\w+ \*testing\.T\)`)
)

// raceless finds the tests of the main module that are built only without the
// race detector, by package.
func raceless(r *repo) (map[string][]string, error) {
	files, err := goFiles(r)
	if err != nil {
		return nil, err
	}
	tests := make(map[string][]string)
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(r.root, file))
		if err != nil {
			return nil, err
		}
		if !notRace.Match(b) {
			continue
		}
		for _, m := range testFunc.FindAllSubmatch(b, -1) {
			pkg := "./" + path.Dir(file)
			tests[pkg] = append(tests[pkg], string(m[1]))
		}
	}
	return tests, nil
}

package main

import (
	"errors"
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

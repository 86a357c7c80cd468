package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A repo is the working tree under test.
type repo struct {
	root string
	all  bool // nothing may be skipped
}

// A command is a program with its arguments, run in a folder of the tree.
type command struct {
	dir  string
	args []string
	env  []string // added to this process's own
}

func (c command) String() string { return strings.Join(c.args, " ") }

func (c command) make() *exec.Cmd {
	cmd := exec.Command(c.args[0], c.args[1:]...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stderr = os.Stderr
	return cmd
}

// start runs the command and gives its standard output to the caller, who
// reads it to the end and then calls wait.
func (c command) start() (stdout io.Reader, wait func() error, err error) {
	cmd := c.make()
	if stdout, err = cmd.StdoutPipe(); err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	return stdout, cmd.Wait, nil
}

// output runs the command and returns what it says on its standard output, or,
// if it fails, on both: one that succeeds may still tell there of its progress.
func (c command) output() (string, error) {
	cmd := c.make()
	var said, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &errors
	err := cmd.Run()
	if err != nil {
		said.Write(errors.Bytes())
	}
	return strings.TrimSpace(said.String()), err
}

// quiet runs the command; its output is shown only if it fails.
func (c command) quiet() error {
	said, err := c.output()
	if err != nil && said != "" {
		return fmt.Errorf("%w\n%s", err, said)
	}
	return err
}

// command makes one that runs at the root.
func (r *repo) command(args ...string) command { return command{dir: r.root, args: args} }

// modules lists the folders of the other modules in the tree.
func (r *repo) modules() []string {
	var dirs []string
	filepath.WalkDir(r.root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipDir(d.Name()):
			return filepath.SkipDir
		case d.Name() == "go.mod" && filepath.Dir(path) != r.root:
			dirs = append(dirs, filepath.Dir(path))
		}
		return nil
	})
	return dirs
}

// rel is a path as a reader at the root would write it.
func (r *repo) rel(path string) string {
	if s, err := filepath.Rel(r.root, path); err == nil {
		return filepath.ToSlash(s)
	}
	return path
}

// skipDir says which folders hold nothing of ours.
func skipDir(name string) bool {
	return name == "node_modules" || name == "testdata" || len(name) > 1 && name[0] == '.'
}

// has says whether a program is on the path.
func has(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSendAndReceive(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 6)
	dir := t.TempDir()
	content := bytes.Repeat([]byte("some file's content\x00\xff"), 50_000)
	file := filepath.Join(dir, "a file.bin")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	inbox := filepath.Join(dir, "inbox")
	if err := os.Mkdir(inbox, 0o700); err != nil {
		t.Fatal(err)
	}
	type sent struct {
		Event, Key, Name string
		Size             int64
	}
	send := func(stdin string, args ...string) (key string, wait func()) {
		t.Helper()
		cmd := command(t.Context(), append(n.args(append([]string{"send"}, args...)...), "--json")...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		d := &daemon{t: t, cmd: cmd, events: newScanner(out), stderr: &errs}
		var e sent
		d.event("listening", &e)
		return e.Key, func() {
			t.Helper()
			d.event("sent", &e)
			if err := cmd.Wait(); err != nil {
				t.Errorf("send: %v\n%s", err, &errs)
			}
		}
	}

	key, wait := send("", file)
	var stranger keyLine
	run(t, "keygen", "--json").decode(t, &stranger)
	if o := n.run("receive", stranger.PublicKey); o.status != 1 {
		t.Errorf("with another key: %+v", o)
	}
	type received struct {
		Event, Name string
		Size        int64
	}
	events := lines[received](t, n.run("receive", key, "--output", inbox))
	wait()
	last := events[len(events)-1]
	if want := filepath.Join(inbox, "a file.bin"); last.Event != "received" || last.Name != want || last.Size != int64(len(content)) {
		t.Errorf("%+v", events)
	}
	if got, err := os.ReadFile(filepath.Join(inbox, "a file.bin")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes arrived, %v", len(got), err)
	}

	// What exists is not replaced, and the sender goes on waiting.
	key, wait = send("", file)
	if o := n.run("receive", key, "--output", inbox); o.status != 1 || !strings.Contains(o.stderr, "--force") {
		t.Errorf("over an existing file: %+v", o)
	}
	lines[received](t, n.run("receive", key, "--output", inbox, "--force"))
	wait()
	if left, err := os.ReadDir(inbox); err != nil || len(left) != 1 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}

	// From stdin to stdout.
	key, wait = send("through pipes", "-")
	if o := n.run("receive", key, "-o", "-"); o.status != 0 || o.stdout != "through pipes" {
		t.Errorf("%+v", o)
	}
	wait()

	if o := n.run("send", filepath.Join(dir, "nothing")); o.status != 2 || !strings.Contains(o.stderr, "nothing") {
		t.Errorf("a file that is not there: %+v", o)
	}
	if o := n.run("send", dir); o.status != 2 || !strings.Contains(o.stderr, "regular") {
		t.Errorf("a folder: %+v", o)
	}
}

func TestTransferFormat(t *testing.T) {
	var b bytes.Buffer
	content := strings.Repeat("x", 3*maxChunk+5)
	if err := writeFile(&b, fileHeader{"name", int64(len(content))}, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	read := func(b []byte) (fileHeader, string, error) {
		r := bufio.NewReader(bytes.NewReader(b))
		h, err := readHeader(r)
		if err != nil {
			return h, "", err
		}
		var out strings.Builder
		_, err = readFile(&out, h, r, math.MaxInt64)
		return h, out.String(), err
	}
	if h, got, err := read(whole); err != nil || h.Name != "name" || got != content {
		t.Errorf("%+v, %d bytes, %v", h, len(got), err)
	}
	for _, cut := range []int{0, 5, 40, len(whole) / 2, len(whole) - 1} {
		if _, _, err := read(whole[:cut]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	for _, bad := range []string{
		"{\"size\":-2}\n", "no JSON\n", strings.Repeat("x", maxHeader+1),
		"{\"size\":1}\n\x00\x00\x00\x02ab\x00\x00\x00\x00",
		"{\"size\":3}\n\x00\x00\x00\x02ab\x00\x00\x00\x00",
		"{\"size\":-1}\n\x7f\xff\xff\xff",
	} {
		if _, _, err := read([]byte(bad)); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%.30q: %v", bad, err)
		}
	}
}

func TestSafeName(t *testing.T) {
	for in, want := range map[string]string{
		"photo.jpg":        "photo.jpg",
		"../../etc/passwd": "passwd",
		`..\..\boot.ini`:   "boot.ini",
		".bashrc":          "bashrc",
		"...":              "",
		"/":                "",
		"":                 "",
		"a\x1b[31mb":       "a_[31mb",
		"C:evil":           "C_evil",
	} {
		got, err := safeName(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("safeName(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

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

// A receiver takes no more than it wants, whatever the sender says of the size.
func TestMaxSize(t *testing.T) {
	t.Parallel()
	content := strings.Repeat("x", maxChunk+5)
	// An announced size is refused before anything has come.
	a := &app{stdout: io.Discard, stderr: io.Discard}
	if err := a.receiveFrom(bytes.NewBufferString("{\"size\":1000}\n"), incoming{output: "-", limit: 999}); err == nil || !strings.Contains(err.Error(), "--max-size") {
		t.Errorf("%v", err)
	}
	for _, size := range []int64{int64(len(content)), -1} { // announced, and not
		for limit, fits := range map[int64]bool{int64(len(content)): true, int64(len(content)) - 1: false, maxChunk: false, 1: false} {
			var sent, asked bytes.Buffer
			if err := writeFile(&sent, fileHeader{"name", size}, strings.NewReader(content)); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			err := a.receiveFrom(struct {
				io.Reader
				io.Writer
			}{&sent, &asked}, incoming{output: dir, limit: limit})
			left, _ := os.ReadDir(dir)
			if fits && (err != nil || len(left) != 1 || asked.String() != transferOK) ||
				!fits && (err == nil || !strings.Contains(err.Error(), "--max-size") || len(left) != 0 || asked.Len() > 0) {
				t.Errorf("size %d, limit %d: %v, left %v, answered %q", size, limit, err, left, &asked)
			}
		}
	}
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{
		"1": 1, "4096": 4096, "500K": 500 << 10, "3M": 3 << 20, "2G": 2 << 30, "1T": 1 << 40, "9223372036854775807": math.MaxInt64, "8388607T": 8388607 << 40,
		"": 0, "0": 0, "-1": 0, "K": 0, "1.5G": 0, "1k": 0, "1KB": 0, "8388608T": 0, "9223372036854775808": 0, "9999999999999999999K": 0,
	} {
		if got, err := parseSize("--max-size", in); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v, want %d", in, got, err, want)
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
		"-rf":              "_rf",
		".-rf":             "_rf",
		"a\u202egpj.exe":   "a_gpj.exe",
		"a\nb\u009b\x7f":   "a_b__",
	} {
		got, err := safeName(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("safeName(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

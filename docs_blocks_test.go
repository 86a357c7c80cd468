package warren

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdhttest"
)

// A block is a fenced block of a page.
type block struct {
	page     string
	line     int // of its first line
	language string
	text     string
}

// pages are those of the root, of docs and of examples, the specifications aside.
func pages(t *testing.T) (found []string) {
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*.md"} {
		matches, err := filepath.Glob(pattern)
		if err != nil || len(matches) == 0 {
			t.Fatalf("%s: %v, %v", pattern, matches, err)
		}
		found = append(found, matches...)
	}
	return found
}

// blocks are the fenced blocks of the pages. Indented ones are not allowed:
// nothing says what they hold.
func blocks(t *testing.T) (found []block) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		var open *block
		before := ""
		for i, line := range strings.SplitAfter(string(text), "\n") {
			fence, isFence := strings.CutPrefix(line, "```")
			switch {
			case isFence && open == nil:
				open = &block{page: page, line: i + 2, language: strings.TrimSpace(fence)}
			case isFence:
				found = append(found, *open)
				open = nil
			case open != nil:
				open.text += line
			case strings.HasPrefix(line, "    ") && strings.TrimSpace(before) == "":
				t.Errorf("%s:%d: an indented block: fence it", page, i+1)
			}
			before = line
		}
		if open != nil {
			t.Errorf("%s:%d: a block without an end", page, open.line)
		}
	}
	return found
}

// Go in a page stands in an example that is compiled and tested; commands are run
// by TestCommandsOfThePages; anything else is labelled as text.
func TestBlocksOfThePages(t *testing.T) {
	var code []string
	err := filepath.WalkDir("examples", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			b, err := os.ReadFile(path)
			code = append(code, flush(string(b)))
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks(t) {
		switch b.language {
		case "go":
			here := false
			for _, file := range code {
				here = here || strings.Contains(file, flush(b.text))
			}
			if !here {
				t.Errorf("%s:%d: this Go is in none of the examples:\n%s", b.page, b.line, b.text)
			}
		case "sh", "text":
		default:
			t.Errorf("%s:%d: a block of %q: want go, sh or text", b.page, b.line, b.language)
		}
	}
}

// inline are the commands within the text of a page that stand alone: go test,
// make and grep, without a word for the reader's own.
func inline(t *testing.T, page string) block {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	b := block{page: page, language: "sh"}
	for _, m := range regexp.MustCompile("`((?:\\w+=\\S+ )*(?:go test|make|grep) [^`]+)`").FindAllStringSubmatch(string(text), -1) {
		b.text += m[1] + "\n"
	}
	if b.text == "" {
		t.Errorf("%s has no commands in its text any more", page)
	}
	return b
}

// flush takes the indentation away.
func flush(s string) string { return regexp.MustCompile(`(?m)^[\t ]+`).ReplaceAllString(s, "") }

// Every block of commands runs, line for line, by the built program and in a test
// network. What stands for the reader's own (addresses, keys, folders) is replaced
// by what there is here. What takes long is not done but checked: make says what it
// would do, go test lists the tests that it would run (there must be some, and the
// flags must be known) or fuzzes for a few rounds, and npm must find its lock file.
func TestCommandsOfThePages(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no sh")
	}
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, "warren"), "./cmd/warren").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n := 0
	for _, b := range append(blocks(t), inline(t, "CONTRIBUTING.md")) {
		if b.language != "sh" {
			continue
		}
		n++
		t.Run(b.page+":"+strconv.Itoa(b.line), func(t *testing.T) {
			s := newShell(t, sh, bin)
			for line := range strings.Lines(b.text) {
				s.do(line)
			}
			s.stop()
		})
	}
	if n == 0 {
		t.Error("no page has commands any more")
	}
}

// A shell runs the lines of one block.
type shell struct {
	t       *testing.T
	sh, dir string
	root    string // of the repository
	env     []string
	values  map[string]string // of the words that stand for the reader's own
	port    string            // of bootstrap nodes, instead of 49737
	running []*exec.Cmd
}

func newShell(t *testing.T, sh, bin string) *shell {
	network := hyperdhttest.Start(t, 5)
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	s := &shell{t: t, sh: sh, dir: t.TempDir(), root: root, port: freePort(t), values: map[string]string{
		"go run ./cmd/warren":    "warren",
		"make ":                  "make -n -C " + root + " ", // what it is made of, without a test in the test
		"go run ./cmd/internal/": "go run -C " + root + " ./cmd/internal/",
		" > docs/demo.svg":       "", // it stays as it is, and the picture is printed
		"HOST:PORT":              network.Bootstrap[0],
		"TARGET":                 strings.Repeat("7", 64),
		"127.0.0.1:9737":         "127.0.0.1:0",
	}}
	for _, dir := range []string{"/var/lib/warren", "/etc/warren"} {
		s.values[dir] = filepath.Join(s.dir, dir)
		if err := os.MkdirAll(s.values[dir], 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"),
		"WARREN_BOOTSTRAP="+strings.Join(network.Bootstrap, ","), "WARREN_MAINLINE_BOOTSTRAP=none")
	t.Cleanup(func() {
		for _, cmd := range s.running {
			cmd.Process.Kill()
		}
	})
	return s
}

// freePort is a UDP port that nobody holds.
func freePort(t *testing.T) string {
	c, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port)
}

var (
	comment = regexp.MustCompile(`(^|\s+)#.*`)
	address = regexp.MustCompile(`\b(203\.0\.113|10\.0\.0)\.5(:49737)?\b`)
	portArg = regexp.MustCompile(` --port 49737\b`)
	export  = regexp.MustCompile(`^export (\w+=\S+)$`)
	setting = regexp.MustCompile(`^(?:\w+=(?:"[^"]*"|\S+) +)+`)
	goTest  = regexp.MustCompile(`^(?:cd interop && )?go test `)
	runArg  = regexp.MustCompile(` -run ('[^']*'|\S+)`)
	fuzzFor = regexp.MustCompile(` -fuzztime \S+`)
	word    = regexp.MustCompile(`\b[A-Z]*KEY\b`)
)

// do runs a line: to its end, or until it is ready if it is a command that goes on.
func (s *shell) do(line string) {
	s.t.Helper()
	line = strings.TrimSpace(comment.ReplaceAllString(line, ""))
	if line == "" {
		return
	}
	line = address.ReplaceAllStringFunc(line, func(a string) string {
		if strings.HasSuffix(a, ":49737") {
			return "127.0.0.1:" + s.port
		}
		return "127.0.0.1"
	})
	line = word.ReplaceAllStringFunc(line, func(w string) string {
		v, ok := s.values[w]
		if !ok {
			s.t.Fatalf("%s: nothing before it has printed the %s", line, w)
		}
		return v
	})
	for from, to := range s.values {
		if !word.MatchString(from) {
			line = strings.ReplaceAll(line, from, to)
		}
	}
	if m := export.FindStringSubmatch(line); m != nil {
		s.env = append(s.env, m[1])
		return
	}
	program, rest, _ := strings.Cut(strings.TrimPrefix(line, setting.FindString(line)), " ")
	switch {
	case program == "make":
		s.finish(line)
		return
	case program == "grep":
		s.finish("cd " + s.root + " && " + line)
		return
	case line == "cd interop && npm ci":
		s.finish("cat " + filepath.Join(s.root, "interop", "package-lock.json"))
		return
	case goTest.MatchString(line):
		s.goTest(line)
		return
	}
	if program != "warren" {
		s.t.Fatalf("%s: the test knows warren, make, go test, grep and npm ci only", line)
	}
	verb, _, _ := strings.Cut(rest, " ")
	if verb == "bootstrap" {
		line = portArg.ReplaceAllString(line, "") + " --port " + s.port
	} else {
		line = portArg.ReplaceAllString(line, " --port "+freePort(s.t))
	}
	switch verb {
	case "node", "bootstrap", "testnet":
		s.start(line, "ready")
	case "listen":
		s.values["KEY"] = s.start(line, "listening")
	case "relay":
		s.values["RELAYKEY"] = s.start(line, "listening")
	default:
		s.finish(line)
	}
}

// goTest checks a line that tests.
func (s *shell) goTest(line string) {
	s.t.Helper()
	fuzz := fuzzFor.MatchString(line)
	if fuzz {
		line = fuzzFor.ReplaceAllString(line, " -fuzztime 10x")
	} else {
		list := "."
		if m := runArg.FindStringSubmatch(line); m != nil {
			list = m[1]
		}
		line = strings.Replace(line, "go test ", "go test -list "+list+" ", 1)
	}
	if out := s.finish("cd " + s.root + " && " + line); !fuzz && !bytes.HasPrefix(out, []byte("Test")) {
		s.t.Errorf("%s: lists no test:\n%s", line, out)
	}
}

// finish runs a command that ends, and returns what it printed.
func (s *shell) finish(line string) []byte {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute) // go test may have to compile
	defer cancel()
	cmd := exec.CommandContext(ctx, s.sh, "-c", line)
	cmd.Dir, cmd.Env, cmd.Stdin = s.dir, s.env, strings.NewReader("hello\n")
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) == 0 {
		s.t.Errorf("%s: %v\n%s", line, err, out)
	}
	if strings.HasPrefix(line, "warren connect ") && !bytes.Contains(out, []byte("hello\n")) {
		s.t.Errorf("%s: no echo in:\n%s", line, out)
	}
	return out
}

// start starts a command that goes on, waits for an event, and returns the public
// key that it tells.
func (s *shell) start(line, event string) (publicKey string) {
	s.t.Helper()
	cmd := exec.Command(s.sh, "-c", "exec "+line+" --json")
	var stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stderr = s.dir, s.env, &stderr
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("%s: %v", line, err)
	}
	s.running = append(s.running, cmd)
	watchdog := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var e struct{ Event, PublicKey string }
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			s.t.Errorf("%s: printed %s", line, lines.Bytes())
		}
		if e.Event == event {
			return e.PublicKey
		}
	}
	cmd.Wait()
	s.t.Fatalf("%s: has ended without being %s: %v\n%s", line, event, cmd.ProcessState, &stderr)
	return ""
}

// stop ends what still runs, as an operator would.
func (s *shell) stop() {
	for _, cmd := range s.running {
		cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, cmd := range s.running {
		watchdog := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("%s: %v", cmd.Args[2], err)
		}
		watchdog.Stop()
	}
	s.running = nil
}

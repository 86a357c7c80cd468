package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// limit bounds every run of the program.
const limit = 60 * time.Second

// program is the built binary.
var program string

func TestMain(m *testing.M) {
	if os.Getenv("WARREN_TEST_STUBBORN") != "" {
		stubborn()
	}
	os.Setenv(envBootstrap, "none") // no network but the one in the flags
	os.Setenv(envMainlineBootstrap, "none")
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		f.Value.Set("12") // the tests mostly wait: for processes, and for nodes that are not there
	}
	dir, err := os.MkdirTemp("", "warren-cli")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "warren.exe")
	if out, err := exec.Command("go", append(append([]string{"build"}, buildFlags...), "-o", program, ".")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// stubborn is a command that does not end when it is asked to.
func stubborn() {
	ctx, _ := untilSignal(context.Background())
	fmt.Println("ready")
	<-ctx.Done()
	fmt.Println(context.Cause(ctx))
	select {}
}

// An outcome is what a run of the program left.
type outcome struct {
	stdout, stderr string
	status         int
	args           []string
}

// command makes a run of the program.
func command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, program, args...)
}

// run runs a command to its end, within this process: starting many processes is
// slow, above all with the race detector. Long-running commands, and what main
// itself does, are tested with the built program (start, execute).
func run(t *testing.T, args ...string) outcome { return runWith(t, "", args...) }

// runWith is run with something on stdin.
func runWith(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var out, errOut bytes.Buffer
	a := &app{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errOut}
	status := a.run(ctx, args)
	if ctx.Err() != nil {
		t.Fatalf("warren %q did not end: %s%s", args, out.String(), errOut.String())
	}
	return outcome{out.String(), errOut.String(), status, args}
}

// execute is run with the built program.
func execute(t *testing.T, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := command(ctx, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("warren %q: %v", args, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("warren %q did not end: %s%s", args, out.String(), errOut.String())
	}
	return outcome{out.String(), errOut.String(), cmd.ProcessState.ExitCode(), args}
}

// ok says that the run must have succeeded, with nothing to say about it.
func (o outcome) ok(t *testing.T) outcome {
	t.Helper()
	if o.status != 0 || o.stderr != "" {
		t.Fatalf("warren %q: status %d\n%s%s", o.args, o.status, o.stdout, o.stderr)
	}
	return o
}

// decode reads the only line of stdout.
func (o outcome) decode(t *testing.T, v any) {
	t.Helper()
	o.ok(t)
	if strings.Count(o.stdout, "\n") != 1 {
		t.Fatalf("warren %q: not one line:\n%s", o.args, o.stdout)
	}
	decode(t, o.stdout, v)
}

// lines reads every line of stdout.
func lines[T any](t *testing.T, o outcome) (all []T) {
	t.Helper()
	o.ok(t)
	for line := range strings.Lines(o.stdout) {
		var v T
		decode(t, line, &v)
		all = append(all, v)
	}
	return all
}

func decode(t *testing.T, line string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(line))
	if err := d.Decode(v); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
}

// A daemon is a long-running command under --json.
type daemon struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	events *bufio.Scanner
	stderr *bytes.Buffer
	done   bool
}

// start starts a long-running command. It is stopped at the end of the test, and
// must end well.
func start(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, cmd: command(context.Background(), append(args, "--json")...), stderr: new(bytes.Buffer)}
	d.cmd.Stderr = d.stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if d.stdin, err = d.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.events = newScanner(out)
	watchdog := time.AfterFunc(limit, func() { d.cmd.Process.Kill() })
	t.Cleanup(func() {
		defer watchdog.Stop()
		d.stop()
	})
	return d
}

// event waits for the next event with a name.
func (d *daemon) event(name string, v any) {
	d.t.Helper()
	for d.events.Scan() {
		var e struct{ Event string }
		decode(d.t, d.events.Text(), &e)
		if e.Event != name {
			continue
		}
		if v != nil {
			decode(d.t, d.events.Text(), v)
		}
		return
	}
	d.t.Fatalf("%q: ended without event %q\n%s", d.cmd.Args, name, d.stderr)
}

// stop sends SIGTERM, and the command must end with status 0.
func (d *daemon) stop() {
	d.t.Helper()
	if d.done {
		return
	}
	d.done = true
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Errorf("%q: %v\n%s", d.cmd.Args, err, d.stderr)
	}
	for d.events.Scan() {
	}
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("%q: %v\n%s", d.cmd.Args, err, d.stderr)
	}
}

// A nodeEvent is listening and the like.
type nodeEvent struct {
	Event string
	Host  string
	Port  int
	ID    string
}

func (e nodeEvent) addr() string { return fmt.Sprintf("%s:%d", e.Host, e.Port) }

func newScanner(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	return s
}

// freeUDPPort finds a port that nobody has at present.
func freeUDPPort(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, port, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

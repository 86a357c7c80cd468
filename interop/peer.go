package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// CallTimeout bounds a call, or a wait for an event, whose context has no
	// deadline of its own.
	CallTimeout = 60 * time.Second
	// stopTimeout is how long a script may take to end after its input has.
	stopTimeout = 3 * time.Second
	// stderrKept is how much of a script's standard error a failed test shows.
	stderrKept = 16 << 10
)

// Args are the named parameters of a command.
type Args map[string]any

// A Peer is a running script. It is safe for concurrent use.
type Peer struct {
	t      testing.TB
	script string
	stdin  io.WriteCloser
	stderr *tail
	exited chan struct{} // closed when the script has ended and its output is read

	mu     sync.Mutex
	last   int
	calls  map[int]chan message
	events map[string]*queue
}

// message is one line of a script: an answer or an event.
type message struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *RemoteError    `json:"error"`
	Event  string          `json:"event"`
	Data   json.RawMessage `json:"data"`
}

// A RemoteError is what a script answered instead of a result.
type RemoteError struct {
	Method  string `json:"-"`
	Message string `json:"message"`
	Code    string `json:"code"` // the JavaScript error's code, often empty
}

func (e *RemoteError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("%s: %s", e.Method, e.Message)
	}
	return fmt.Sprintf("%s: %s: %s", e.Method, e.Code, e.Message)
}

// Need skips the test, naming the reason, or fails it when WARREN_TEST_ALL=1
// demands that every test runs.
func Need(t testing.TB, ok bool, reason string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("WARREN_TEST_ALL") == "1":
		t.Fatalf("WARREN_TEST_ALL=1, but %s", reason)
	default:
		t.Skip(reason)
	}
}

// Dir returns the interop folder, which holds js/ and node_modules/.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "js", "lib.js")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("interop: no js/lib.js above the working directory")
		}
		dir = up
	}
}

// StartJS starts js/<script> with the arguments and waits until it listens. At
// the end of the test it is stopped and awaited; if the test has failed, its
// standard error is shown.
func StartJS(t testing.TB, script string, args ...string) *Peer {
	t.Helper()
	node, err := exec.LookPath("node")
	Need(t, err == nil, "node is not installed")
	dir := Dir(t)
	_, err = os.Stat(filepath.Join(dir, "node_modules"))
	Need(t, err == nil, "interop/node_modules is missing (npm ci in interop/)")

	cmd := exec.Command(node, append([]string{"--expose-gc", filepath.Join(dir, "js", script)}, args...)...)
	cmd.Dir = dir
	p := &Peer{
		t:      t,
		script: script,
		stderr: &tail{max: stderrKept},
		exited: make(chan struct{}),
		calls:  make(map[int]chan message),
		events: make(map[string]*queue),
	}
	cmd.Stderr = p.stderr
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.read(stdout)
		cmd.Wait() // its status says nothing: a script is often killed
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.stdin.Close()
		select {
		case <-p.exited:
		case <-time.After(stopTimeout):
			cmd.Process.Kill()
			<-p.exited
		}
		if said := p.stderr.String(); t.Failed() && said != "" {
			t.Logf("%s said:\n%s", script, said)
		}
	})
	if err := p.Event(t.Context(), "ready", nil); err != nil {
		t.Fatalf("%s did not start: %v", script, err)
	}
	return p
}

// read hands the script's lines to those who wait for them.
func (p *Peer) read(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			fmt.Fprintf(p.stderr, "(stdout) %s\n", lines.Bytes())
			continue
		}
		p.mu.Lock()
		if m.Event != "" {
			p.queue(m.Event).put(m.Data)
		} else if reply, ok := p.calls[m.ID]; ok {
			delete(p.calls, m.ID)
			reply <- m // has room
		}
		p.mu.Unlock()
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintf(p.stderr, "(stdout) %v\n", err)
	}
}

// queue returns the events of a name. The caller holds mu.
func (p *Peer) queue(name string) *queue {
	q, ok := p.events[name]
	if !ok {
		q = &queue{more: make(chan struct{}, 1)}
		p.events[name] = q
	}
	return q
}

// Call runs a command and decodes its result into result, which may be nil. An
// error of the script is a *[RemoteError].
func (p *Peer) Call(ctx context.Context, method string, params Args, result any) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	reply := make(chan message, 1)
	p.mu.Lock()
	p.last++
	id := p.last
	p.calls[id] = reply
	line, err := json.Marshal(map[string]any{"id": id, "method": method, "params": params})
	if err == nil {
		_, err = p.stdin.Write(append(line, '\n'))
	}
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s %s: %w", p.script, method, err)
	}
	select {
	case m := <-reply:
		return decode(method, m, result)
	case <-p.exited:
		return fmt.Errorf("%s %s: the script has ended", p.script, method)
	case <-ctx.Done():
		p.mu.Lock()
		delete(p.calls, id)
		p.mu.Unlock()
		return fmt.Errorf("%s %s: %w", p.script, method, context.Cause(ctx))
	}
}

func decode(method string, m message, result any) error {
	if m.Error != nil {
		m.Error.Method = method
		return m.Error
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(m.Result, result)
}

// Must is Call under the test's context; an error fails the test.
func (p *Peer) Must(method string, params Args, result any) {
	p.t.Helper()
	if err := p.Call(p.t.Context(), method, params, result); err != nil {
		p.t.Fatal(err)
	}
}

// Event waits for the next event of a name and decodes its data into data,
// which may be nil. Events wait in order, each name in a queue of its own.
func (p *Peer) Event(ctx context.Context, name string, data any) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	p.mu.Lock()
	q := p.queue(name)
	p.mu.Unlock()
	for {
		p.mu.Lock()
		b, ok := q.get()
		p.mu.Unlock()
		if ok {
			if data == nil {
				return nil
			}
			return json.Unmarshal(b, data)
		}
		select {
		case <-q.more:
		case <-p.exited:
			return fmt.Errorf("%s: no event %q: the script has ended", p.script, name)
		case <-ctx.Done():
			return fmt.Errorf("%s: no event %q: %w", p.script, name, context.Cause(ctx))
		}
	}
}

var errSlow = errors.New("no answer in time")

// bounded adds CallTimeout to a context that has no deadline.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, CallTimeout, errSlow)
}

// A queue holds the events of one name. The peer's mutex guards it.
type queue struct {
	items []json.RawMessage
	more  chan struct{} // holds a value when items has grown
}

func (q *queue) put(b json.RawMessage) {
	q.items = append(q.items, b)
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *queue) get() (json.RawMessage, bool) {
	if len(q.items) == 0 {
		return nil, false
	}
	b := q.items[0]
	q.items = q.items[1:]
	if len(q.items) > 0 { // another waiter may be asleep
		select {
		case q.more <- struct{}{}:
		default:
		}
	}
	return b, true
}

// A tail keeps the last max bytes written to it. It is safe for concurrent use.
type tail struct {
	mu  sync.Mutex
	max int
	b   []byte
}

func (w *tail) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b = append(w.b, b...)
	if over := len(w.b) - w.max; over > 0 {
		w.b = append(w.b[:0], w.b[over:]...)
	}
	return len(b), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(string(bytes.Clone(w.b)))
}

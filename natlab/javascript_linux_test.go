package natlab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
)

// scripts is where the reference's peers and their packages are.
const scripts = "../interop"

// needJavaScript skips the test where the reference cannot run, unless
// WARREN_TEST_ALL=1.
func needJavaScript(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(scripts, "node_modules", "hyperdht"))
	}
	if err == nil {
		return
	}
	if os.Getenv("WARREN_TEST_ALL") == "1" {
		t.Fatalf("the reference: %v (npm ci in interop/)", err)
	}
	t.Skipf("the reference: %v (npm ci in interop/)", err)
}

// A script is a process that runs interop/js/hyperdht.js on a host: a command
// is a line {"id", "method", "params"}, its answer a line {"id", "result"} or
// {"id", "error"}. Safe for concurrent use.
type script struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer // to be read after exited
	exited chan struct{}

	mu    sync.Mutex
	last  int
	calls map[int]chan scriptLine
}

type scriptLine struct {
	ID     int             `json:"id"`
	Event  string          `json:"event"`
	Result json.RawMessage `json:"result"`
	Error  *scriptError    `json:"error"`
}

// A scriptError is an error of the reference, with its code if it has one.
type scriptError struct{ Message, Code string }

func (e *scriptError) Error() string { return e.Code + ": " + e.Message }

// startScript starts the script on a host; it ends with the test.
func startScript(t *testing.T, h *Host) *script {
	t.Helper()
	s := &script{exited: make(chan struct{}), calls: map[int]chan scriptLine{}}
	s.cmd = h.Command(context.Background(), "node", filepath.Join("js", "hyperdht.js"))
	s.cmd.Dir = scripts
	s.cmd.Stderr = &s.stderr
	var err error
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.read(stdout)
		s.cmd.Wait() // its status says nothing
		close(s.exited)
	}()
	t.Cleanup(func() {
		s.stdin.Close()
		select {
		case <-s.exited:
		case <-time.After(patience):
			s.cmd.Process.Kill()
			<-s.exited
		}
		if t.Failed() && s.stderr.Len() > 0 {
			t.Logf("hyperdht.js said:\n%s", s.stderr.String())
		}
	})
	return s
}

func (s *script) read(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l scriptLine
		if json.Unmarshal(lines.Bytes(), &l) != nil || l.Event != "" {
			continue
		}
		s.mu.Lock()
		answer := s.calls[l.ID]
		delete(s.calls, l.ID)
		s.mu.Unlock()
		if answer != nil {
			answer <- l // has room
		}
	}
}

type params map[string]any

// call runs a command and decodes its result into result, which may be nil.
func (s *script) call(ctx context.Context, method string, p params, result any) error {
	answer := make(chan scriptLine, 1)
	s.mu.Lock()
	s.last++
	id := s.last
	s.calls[id] = answer
	line, err := json.Marshal(map[string]any{"id": id, "method": method, "params": p})
	if err == nil {
		_, err = s.stdin.Write(append(line, '\n'))
	}
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case l := <-answer:
		if l.Error != nil {
			return fmt.Errorf("%s: %w", method, l.Error)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(l.Result, result)
	case <-s.exited:
		return fmt.Errorf("%s: hyperdht.js has ended", method)
	case <-ctx.Done():
		s.mu.Lock()
		delete(s.calls, id)
		s.mu.Unlock()
		return fmt.Errorf("%s: %w", method, context.Cause(ctx))
	}
}

// A jsPeer is a node of the reference.
type jsPeer struct {
	script *script
	node   string // handles
	server string
}

// newJSPeer starts a node of the reference in a script's process and waits
// until it is ready.
func newJSPeer(ctx context.Context, s *script, boot string, place Class) (*jsPeer, error) {
	p := params{"host": "0.0.0.0", "bootstrap": []string{boot}, "randomPunchInterval": 1}
	if place == Open {
		p["firewalled"] = false
	}
	var n struct{ Node string }
	err := s.call(ctx, "node", p, &n)
	return &jsPeer{script: s, node: n.Node}, err
}

func (p *jsPeer) listen(ctx context.Context, cond conditions) (key hyperdht.PublicKey, err error) {
	options := params{}
	if len(cond.serverRelay) > 0 {
		options["relayThrough"] = cond.serverRelay[0].String()
	}
	var s struct{ Server, PublicKey string }
	if err := p.script.call(ctx, "listen", params{"node": p.node, "mode": "echo", "options": options}, &s); err != nil {
		return key, err
	}
	p.server = s.Server
	_, err = hex.Decode(key[:], []byte(s.PublicKey))
	return key, err
}

// accepted waits for a connection. The reference does not say which path it has.
func (p *jsPeer) accepted(ctx context.Context) (conn, error) {
	return conn{}, p.script.call(ctx, "server.accept", params{"server": p.server}, nil)
}

func (p *jsPeer) dial(ctx context.Context, key hyperdht.PublicKey, cond conditions) (c conn, err error) {
	options := params{}
	if cond.noFastOpen {
		options["fastOpen"] = false
	}
	if len(cond.clientRelay) > 0 {
		options["relayThrough"] = cond.clientRelay[0].String()
	}
	var s struct{ Stream string }
	start := time.Now()
	if err := p.script.call(ctx, "connect", params{"node": p.node, "key": key.String(), "options": options}, &s); err != nil {
		return c, err
	}
	if err := p.script.call(ctx, "stream.wait", params{"stream": s.Stream, "what": "open"}, nil); err != nil {
		c.took = time.Since(start)
		return c, err
	}
	c.took = time.Since(start)
	c.echo = func(ctx context.Context) error {
		if err := p.script.call(ctx, "stream.write", params{"stream": s.Stream, "data": "2a"}, nil); err != nil {
			return err
		}
		var b string
		if err := p.script.call(ctx, "stream.read", params{"stream": s.Stream, "bytes": 1}, &b); err != nil {
			return err
		}
		if b != "2a" {
			return fmt.Errorf("read %q", b)
		}
		return nil
	}
	return c, nil
}

func (p *jsPeer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p.script.call(ctx, "node.destroy", params{"node": p.node, "force": true}, nil)
}

package natlab

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
)

// programFile is where TestProgram builds the program.
var programFile string

// A programPeer is the program warren, as a user runs it: one process listens
// or dials.
type programPeer struct {
	host   *Host
	boot   string
	class  Class
	cmd    *exec.Cmd
	events *json.Decoder
}

// An event is a line that the program prints with --json.
type programEvent struct {
	Event, PublicKey, Path string
	Ms                     float64
	Error                  string
}

func (p *programPeer) command(ctx context.Context, args ...string) {
	args = append(args, "--json", "--bootstrap", p.boot)
	if p.class == Open {
		args = append(args, "--firewalled=false")
	}
	p.cmd = p.host.Command(ctx, programFile, args...)
}

// event waits for an event of the name.
func (p *programPeer) event(name string) (e programEvent, err error) {
	for {
		e = programEvent{}
		switch err := p.events.Decode(&e); {
		case err != nil:
			return e, fmt.Errorf("no event %q: %w", name, err)
		case e.Error != "":
			return e, errors.New(e.Error)
		case e.Event == name:
			return e, nil
		}
	}
}

func (p *programPeer) listen(ctx context.Context, _ conditions) (key hyperdht.PublicKey, err error) {
	p.command(context.Background(), "listen", "--echo")
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return key, err
	}
	if err := p.cmd.Start(); err != nil {
		return key, err
	}
	p.events = json.NewDecoder(bufio.NewReader(stdout))
	e, err := p.event("listening")
	if err != nil {
		return key, err
	}
	_, err = hex.Decode(key[:], []byte(e.PublicKey))
	return key, err
}

func (p *programPeer) accepted(context.Context) (conn, error) {
	e, err := p.event("connection")
	return conn{path: kindOf(e.Path)}, err
}

// kindOf is the path kind with a name, 0 if there is none.
func kindOf(name string) hyperdht.PathKind {
	for k := hyperdht.PathDirect; k <= hyperdht.PathRelayed; k++ {
		if k.String() == name {
			return k
		}
	}
	return 0
}

func (p *programPeer) dial(ctx context.Context, key hyperdht.PublicKey, _ conditions) (c conn, err error) {
	p.command(ctx, "connect", key.String())
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return c, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return c, err
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return c, err
	}
	if err := p.cmd.Start(); err != nil {
		return c, err
	}
	p.events = json.NewDecoder(bufio.NewReader(stderr))
	e, err := p.event("open")
	if err != nil {
		return c, err
	}
	c.took = time.Duration(e.Ms * float64(time.Millisecond))
	c.path = kindOf(e.Path)
	c.echo = func(context.Context) error {
		if _, err := stdin.Write([]byte{42}); err != nil {
			return err
		}
		stdin.Close()
		got, err := io.ReadAll(stdout)
		if err != nil || len(got) != 1 || got[0] != 42 {
			return fmt.Errorf("read %v, %v", got, err)
		}
		return p.cmd.Wait()
	}
	return c, nil
}

func (p *programPeer) close() {
	if p.cmd != nil && p.cmd.Process != nil {
		p.cmd.Process.Signal(os.Interrupt)
		p.cmd.Wait()
	}
}

// The program itself listens and connects, in every class.
func TestProgram(t *testing.T) {
	w := newWorld(t, matrixClasses, warrenDHT)
	programFile = filepath.Join(t.TempDir(), "warren")
	if out, err := exec.Command("go", "build", "-o", programFile, "../cmd/warren").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	k := kinds{program, program}
	for _, c := range matrixClasses {
		for _, p := range []pair{{c, Consistent}, {Consistent, c}} {
			t.Run(p.String(), func(t *testing.T) {
				out := w.connect(t, k, p)
				t.Logf("%v, %v, %v", out.took, out.client, out.server)
				if out.err != nil || out.client != p.want() || out.server != p.want() {
					t.Errorf("paths %v and %v, want %v; %v", out.client, out.server, p.want(), out.err)
				}
			})
		}
	}
}

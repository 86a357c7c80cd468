package natlab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/warren-dht/warren/dhtrpc1"
)

// Two nodes of a dht-rpc 1.x or 2.x network, each behind a NAT of its own, reach
// each other through a referrer in the open, whichever of the three are ours and
// whichever are the reference's (docs/spec/dht-rpc-v2.md §8).
func TestFirstDHTRPC(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		skipWithout(t, err)
	}
	if _, err := os.Stat(filepath.Join("..", "interop", "node_modules", "dht-rpc-v2")); err != nil {
		skipWithout(t, err)
	}
	makers := map[string]func(*testing.T, *Host, bool, ...netip.AddrPort) v1Node{"Go": newV1Go, "JavaScript": newV1Script}
	for a, makeA := range makers {
		for b, makeB := range makers {
			for r, makeR := range makers {
				t.Run(fmt.Sprintf("%s to %s through %s", a, b, r), func(t *testing.T) {
					l := New(t)
					open := l.Host(Open)
					referrer := makeR(t, open, true)
					at := netip.AddrPortFrom(open.Addr(), referrer.port())
					// A is ephemeral, so that nobody tells B of it: B's NAT knows nothing of A.
					nodeB := makeB(t, l.Host(Consistent), false, at)
					nodeA := makeA(t, l.Host(Consistent), true, at)
					peer := nodeB.seenBy(t, at)
					if err := nodeA.holepunch(peer, at); err != nil {
						t.Errorf("hole punch: %v", err)
					}
				})
				t.Run(fmt.Sprintf("query of %s by %s through %s", b, a, r), func(t *testing.T) {
					l := New(t)
					open := l.Host(Open)
					referrer := makeR(t, open, true)
					at := netip.AddrPortFrom(open.Addr(), referrer.port())
					nodeB := makeB(t, l.Host(Consistent), false, at)
					nodeA := makeA(t, l.Host(Consistent), true, at)
					peer := nodeB.seenBy(t, at)
					if got, err := nodeA.query(peer, at); err != nil || got != "through the NATs" {
						t.Errorf("query: %q, %v", got, err)
					}
				})
			}
		}
	}
}

func skipWithout(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("WARREN_TEST_ALL") == "1" {
		t.Fatalf("the reference: %v (npm ci in interop/)", err)
	}
	t.Skipf("the reference: %v (npm ci in interop/)", err)
}

// A v1Node is a node of a dht-rpc 1.x or 2.x network in the laboratory.
type v1Node interface {
	port() uint16
	// seenBy asks another node for our public address.
	seenBy(t *testing.T, other netip.AddrPort) netip.AddrPort
	holepunch(peer, referrer netip.AddrPort) error
	// query asks one node for an echo.
	query(peer, referrer netip.AddrPort) (string, error)
}

// v1Go is one of ours.
type v1Go struct{ *dhtrpc1.Node }

func newV1Go(t *testing.T, h *Host, ephemeral bool, boot ...netip.AddrPort) v1Node {
	t.Helper()
	var mux dhtrpc1.Mux
	mux.HandleQuery("echo", func(r *dhtrpc1.Request) { r.Reply(r.Value) })
	n, err := dhtrpc1.Listen(dhtrpc1.Config{Network: h, Bootstrap: boot, Ephemeral: ephemeral, Handler: &mux})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	if err := n.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return v1Go{n}
}

func (n v1Go) port() uint16 { return n.LocalAddr().Port() }

func (n v1Go) seenBy(t *testing.T, other netip.AddrPort) netip.AddrPort {
	t.Helper()
	p, err := n.Ping(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	return p.Observed
}

func (n v1Go) holepunch(peer, referrer netip.AddrPort) error {
	p, err := n.Holepunch(context.Background(), peer, referrer)
	if err == nil && p.Addr != peer {
		err = fmt.Errorf("%v answered", p.Addr)
	}
	return err
}

func (n v1Go) query(peer, referrer netip.AddrPort) (string, error) {
	q := dhtrpc1.Query{Command: "echo", Value: []byte("through the NATs"), Nodes: []dhtrpc1.Peer{{Addr: peer, Referrer: referrer}}}
	replies, err := dhtrpc1.Collect(n.Query(context.Background(), q))
	if err != nil || len(replies) == 0 {
		return "", errors.Join(err, errors.New("no reply"))
	}
	return string(replies[0].Value), nil
}

// v1Script is one of the reference's, in a process of its own.
type v1Script struct {
	stdin io.Writer
	lines *bufio.Scanner
	bound uint16
}

// v1Answer is a line of interop/js/dhtrpc1-peer.js.
type v1Answer struct {
	Error, Value, Host string
	Port               uint16
}

func newV1Script(t *testing.T, h *Host, ephemeral bool, boot ...netip.AddrPort) v1Node {
	t.Helper()
	args := []string{"node", filepath.Join("js", "dhtrpc1-peer.js")}
	for _, b := range boot {
		args = append(args, b.String())
	}
	cmd := h.Command(context.Background(), args[0], args[1:]...)
	cmd.Dir = filepath.Join("..", "interop")
	if ephemeral {
		cmd.Env = append(os.Environ(), "EPHEMERAL=1")
	}
	var said strings.Builder
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait() // its status says nothing
		watchdog.Stop()
		if t.Failed() && said.Len() > 0 {
			t.Logf("dhtrpc1-peer.js said:\n%s", said.String())
		}
	})
	s := &v1Script{stdin: stdin, lines: bufio.NewScanner(stdout)}
	a, err := s.read()
	if err != nil {
		t.Fatal(err)
	}
	s.bound = a.Port
	return s
}

func (s *v1Script) read() (a v1Answer, err error) {
	if !s.lines.Scan() {
		return a, errors.New("the script has ended")
	}
	if err := json.Unmarshal(s.lines.Bytes(), &a); err != nil {
		return a, err
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

func (s *v1Script) ask(m map[string]string) (v1Answer, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return v1Answer{}, err
	}
	if _, err := s.stdin.Write(append(b, '\n')); err != nil {
		return v1Answer{}, err
	}
	return s.read()
}

func (s *v1Script) port() uint16 { return s.bound }

func (s *v1Script) seenBy(t *testing.T, other netip.AddrPort) netip.AddrPort {
	t.Helper()
	a, err := s.ask(map[string]string{"ping": other.String()})
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.MustParseAddr(a.Host), a.Port)
}

func (s *v1Script) holepunch(peer, referrer netip.AddrPort) error {
	_, err := s.ask(map[string]string{"holepunch": peer.String(), "referrer": referrer.String()})
	return err
}

func (s *v1Script) query(peer, referrer netip.AddrPort) (string, error) {
	a, err := s.ask(map[string]string{"query": peer.String(), "referrer": referrer.String()})
	return a.Value, err
}

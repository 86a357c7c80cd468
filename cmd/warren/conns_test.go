package main

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"
)

func TestConnFlags(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]connFlags{
		"":                                    {all: 100, peer: 20},
		"--max-conns=50":                      {all: 50, peer: 20},
		"--max-conns=5":                       {all: 5, peer: 5},
		"--max-peer-conns=7":                  {all: 100, peer: 7},
		"--max-peer-conns=700":                {all: 700, peer: 700},
		"--max-conns=9 --max-peer-conns=9":    {all: 9, peer: 9},
		"--max-conns=0":                       {},
		"--max-conns=-1":                      {},
		"--max-peer-conns=0":                  {},
		"--max-peer-conns=-3":                 {},
		"--max-conns=100 --max-peer-conns=0":  {},
		"--max-conns=10 --max-peer-conns=100": {},
	} {
		var f connFlags
		cmd := &cobra.Command{}
		f.add(cmd, "", "")
		if err := cmd.ParseFlags(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		switch err := f.settle(cmd, 100, 20); {
		case want == connFlags{}:
			if !errors.As(err, new(usageError)) {
				t.Errorf("%s: %v, %+v", args, err, f)
			}
		case err != nil || f != want:
			t.Errorf("%s: %v, %+v, want %+v", args, err, f, want)
		}
	}
}

// A service that does not answer is not waited for longer than upstreamTimeout, nor
// for a peer that is gone.
func TestDialOfASilentService(t *testing.T) {
	t.Parallel()
	silent := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for gone, want := range map[time.Duration]time.Duration{
		time.Second: time.Second,
		time.Hour:   upstreamTimeout,
	} {
		synctest.Test(t, func(t *testing.T) {
			peer := make(chan struct{})
			timer := time.AfterFunc(gone, func() { close(peer) })
			defer timer.Stop()
			start := time.Now()
			_, err := dialService(t.Context(), peer, "127.0.0.1:1", silent)
			if took := time.Since(start); err == nil || took != want {
				t.Errorf("%v after %v, want %v", err, took, want)
			}
		})
	}
}

// held opens a connection and waits for the first line of the command that serves it.
func (n *testNetwork) held(args ...string) (*heldConn, error) {
	n.t.Helper()
	cmd := command(n.t.Context(), n.args(append([]string{"connect", keyHex}, args...)...)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	watchdog := time.AfterFunc(limit, func() { cmd.Process.Kill() })
	c := &heldConn{interrupt: sync.OnceFunc(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		watchdog.Stop()
		stdin.Close()
	})}
	n.t.Cleanup(c.interrupt)
	lines := newScanner(out)
	if !lines.Scan() {
		return nil, errors.New("no connection")
	}
	c.first = lines.Text()
	return c, nil
}

// A heldConn is a connection that stays open until it is interrupted.
type heldConn struct {
	first     string // line
	interrupt func()
}

// listen serves at most --max-conns connections, --max-peer-conns of one key, and with
// them that many commands.
func TestListenBoundsConnections(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 5)
	var me, other keyLine
	run(t, "keygen", "--json").decode(t, &me)
	run(t, "keygen", "--json").decode(t, &other)
	d := n.start("listen", "--seed", hex32, "--allow=any", "--exec", "echo served; cat", "--max-conns=3", "--max-peer-conns=2")
	d.event("listening", nil)
	refused := func(why string, seed string) {
		t.Helper()
		if o := n.run("connect", keyHex, "--seed", seed); o.status != 1 || o.stdout != "" {
			t.Errorf("%s: %+v", why, o)
		}
	}
	for range 2 {
		if _, err := n.held("--seed", me.Seed); err != nil {
			t.Fatal(err)
		}
	}
	refused("a third one of a peer", me.Seed)
	last, err := n.held("--seed", other.Seed)
	if err != nil {
		t.Fatal(err)
	}
	refused("a fourth one", hex32[2:]+"01")
	for range 3 {
		d.event("connection", nil)
	}
	last.interrupt()
	d.event("closed", nil)
	if got, _ := n.connect("again\n", keyHex, "--seed", other.Seed); got != "served\nagain\n" {
		t.Errorf("%q", got)
	}
}

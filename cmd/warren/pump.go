package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/warren-dht/warren/hyperdht"
)

// stdinGrace is how long stdin may be silent, after the peer has ended, before
// it is not waited for any more.
const stdinGrace = 500 * time.Millisecond

// A stream is a connection whose halves end one by one.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// join carries bytes between two connections until both directions have ended,
// and closes both. The end of one half ends the half behind it.
func join(x, y stream) error {
	half := func(dst, src stream) error {
		_, err := io.Copy(dst, src)
		if err != nil {
			x.Close() // the other direction must not wait for ever
			y.Close()
			return err
		}
		return dst.CloseWrite()
	}
	other := make(chan error, 1)
	go func() { other <- half(x, y) }()
	err := half(y, x)
	err = errors.Join(err, <-other)
	x.Close()
	y.Close()
	if errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ENOTCONN) {
		return nil
	}
	return err
}

// stdio carries stdin to a connection and the connection to stdout. The end of
// stdin ends our half; the peer's end is the end, once stdin has nothing more to
// give.
func (a *app) stdio(ctx context.Context, conn *hyperdht.Conn) error {
	in := &activeReader{r: a.stdin}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, in)
		sent <- errors.Join(err, conn.CloseWrite())
	}()
	received := make(chan error, 1)
	go func() {
		_, err := io.Copy(a.stdout, conn)
		received <- err
	}()
	select {
	case err := <-received:
		if err != nil {
			conn.Destroy(err)
			return err
		}
	case <-ctx.Done(): // the copying may hang in stdout
		return context.Cause(ctx)
	}
	for waiting := true; waiting; {
		before := in.steps.Load()
		select {
		case err := <-sent:
			if err != nil && !over(conn) {
				return err
			}
			waiting = false
		case <-conn.Done():
			waiting = false
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(stdinGrace):
			waiting = !in.silentSince(before)
		}
	}
	return finish(ctx, conn, nil)
}

// An activeReader counts the beginnings and ends of reads.
type activeReader struct {
	r     io.Reader
	steps atomic.Int64 // odd while a read waits
}

func (r *activeReader) Read(p []byte) (int, error) {
	r.steps.Add(1)
	defer r.steps.Add(1)
	return r.r.Read(p)
}

// silentSince tells whether a read waits that has waited at this step already. What
// was read may still be on its way to a slow peer: that is no silence.
func (r *activeReader) silentSince(step int64) bool { return step%2 == 1 && r.steps.Load() == step }

// killDelay is how long a command may go on after it was asked to end.
const killDelay = time.Second

// exec runs a command with a connection as its stdin and stdout. The end of its
// output ends our half.
func (a *app) exec(ctx context.Context, conn *hyperdht.Conn, command string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	together(cmd)
	cmd.WaitDelay = killDelay
	cmd.Stderr = lockedWriter{a, a.stderr}
	cmd.Env = append(os.Environ(), "WARREN_REMOTE_PUBLIC_KEY="+conn.RemotePublicKey().String())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { // after Wait
		if ctx.Err() != nil {
			endGroup(cmd)
		}
	}()
	peer := make(chan error, 1)
	go func() {
		_, err := io.Copy(stdin, conn)
		stdin.Close()
		if errors.As(err, new(*fs.PathError)) { // the command reads no more
			_, err = io.Copy(io.Discard, conn)
		}
		peer <- err
		if err != nil {
			cancel() // the peer is gone
		}
	}()
	_, err = io.Copy(conn, stdout)
	if err != nil {
		cancel()
		cmd.Wait()
		return finish(ctx, conn, err)
	}
	conn.CloseWrite() // fails if the peer is gone, which is no fault of ours
	if err := cmd.Wait(); err != nil {
		a.log.Debug("command ended", "command", command, "error", err)
	}
	select {
	case err = <-peer:
	default:
		err = nil
	}
	return finish(ctx, conn, err)
}

// over tells whether a connection has ended on both sides.
func over(conn *hyperdht.Conn) bool {
	select {
	case <-conn.Done():
		return true
	default:
		return false
	}
}

// finish ends our half of a connection, or all of it if err is why it failed, and
// waits until the peer has everything.
func finish(ctx context.Context, conn *hyperdht.Conn, err error) error {
	if err != nil {
		conn.Destroy(err)
		return err
	}
	conn.Close()
	select {
	case <-conn.Done():
	case <-ctx.Done():
	}
	return nil
}

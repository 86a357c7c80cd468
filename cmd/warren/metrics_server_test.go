package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A pipeListener is a listener in memory, whose connections have no buffers at all.
type pipeListener struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{accepted: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial() net.Conn {
	ours, theirs := net.Pipe()
	l.accepted <- theirs
	return ours
}

// serveOnPipes runs the metrics server with a page of 100,000 bytes. Each connection
// that the server closes is told on the channel.
func serveOnPipes(t *testing.T) (l *pipeListener, closed <-chan struct{}) {
	l = newPipeListener()
	ended := make(chan struct{}, 100)
	server := metricsServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, strings.Repeat("x", 100_000))
	}))
	server.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			ended <- struct{}{}
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(&newestListener{Listener: l, max: metricsMaxConns})
	}()
	t.Cleanup(func() { server.Close(); <-done })
	return l, ended
}

// Clients that are slow, or do nothing, lose their connections in time.
func TestMetricsOfSlowClients(t *testing.T) {
	t.Parallel()
	const request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
	slowly := func(step func() error) error {
		for {
			if err := step(); err != nil {
				return err
			}
			time.Sleep(time.Second)
		}
	}
	for name, tt := range map[string]struct {
		client func(net.Conn) error
		within time.Duration
	}{
		"says nothing": {func(net.Conn) error { return nil }, metricsHeaderTimeout},
		"head a byte a second": {func(c net.Conn) error {
			return slowly(func() error { _, err := io.WriteString(c, "G"); return err })
		}, metricsHeaderTimeout + metricsWriteTimeout}, // it is told that this was no request, and does not read it
		"head without end": {func(c net.Conn) error {
			io.WriteString(c, "GET / HTTP/1.1\r\n")
			return slowly(func() error { _, err := io.WriteString(c, "X-More: x\r\n"); return err })
		}, metricsHeaderTimeout},
		"body that does not come": {func(c net.Conn) error {
			io.WriteString(c, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
			_, err := io.Copy(io.Discard, c)
			return err
		}, metricsReadTimeout},
		"never reads": {func(c net.Conn) error {
			_, err := io.WriteString(c, request)
			return err
		}, metricsWriteTimeout},
		"reads a byte a second": {func(c net.Conn) error {
			io.WriteString(c, request)
			return slowly(func() error { _, err := c.Read(make([]byte, 1)); return err })
		}, metricsWriteTimeout},
		"reads, and asks no more": {func(c net.Conn) error {
			io.WriteString(c, request)
			_, err := io.Copy(io.Discard, c)
			return err
		}, metricsIdleTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, closed := serveOnPipes(t)
				start := time.Now()
				c := l.dial()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					tt.client(c)
				}()
				select {
				case <-closed:
				case <-time.After(time.Hour):
				}
				if took := time.Since(start); took < tt.within/2 || took > tt.within+time.Second {
					t.Errorf("closed after %v, want %v", took, tt.within)
				}
				c.Close()
				<-ended
			})
		})
	}
}

// A head that is too large is refused.
func TestMetricsOfLargeHeads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _ := serveOnPipes(t)
		for size, want := range map[int]int{metricsMaxHeader / 2: http.StatusOK, 2 * metricsMaxHeader: http.StatusRequestHeaderFieldsTooLarge} {
			c := l.dial()
			go fmt.Fprintf(c, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Large: %s\r\n\r\n", strings.Repeat("x", size))
			r, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, r.Body)
			if r.StatusCode != want {
				t.Errorf("%d bytes: status %d, want %d", size, r.StatusCode, want)
			}
			c.Close()
		}
	})
}

// However many clients hold connections open, few are open at a time, and the
// next one is served at once.
func TestMetricsOfManyClients(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, closed := serveOnPipes(t)
		const clients = 5 * metricsMaxConns / 2
		var held []net.Conn
		for range clients {
			held = append(held, l.dial())
		}
		synctest.Wait()
		for range clients - metricsMaxConns {
			select {
			case <-closed:
			default:
				t.Fatal("more connections are open than may be")
			}
		}
		start := time.Now()
		c := l.dial()
		go io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r.Body); n != 100_000 || err != nil || time.Since(start) > 0 {
			t.Errorf("%d bytes after %v, %v", n, time.Since(start), err)
		}
		for _, c := range append(held, c) {
			c.Close()
		}
	})
}

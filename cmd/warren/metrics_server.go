package main

import (
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Bounds of the metrics server. Profiles that take long get that much more time to be
// written (net/http/pprof).
const (
	metricsHeaderTimeout = 5 * time.Second  // for the head of a request
	metricsReadTimeout   = 10 * time.Second // for all of it
	metricsWriteTimeout  = 10 * time.Second // for the reply
	metricsIdleTimeout   = time.Minute      // between two requests
	metricsMaxHeader     = 8 << 10          // bytes
	metricsMaxConns      = 32
)

// metricsServer makes the HTTP server of the metrics.
func metricsServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: metricsHeaderTimeout,
		ReadTimeout:       metricsReadTimeout,
		WriteTimeout:      metricsWriteTimeout,
		IdleTimeout:       metricsIdleTimeout,
		MaxHeaderBytes:    metricsMaxHeader,
	}
}

// A newestListener keeps the newest connections: each one above max closes the oldest.
// So clients that hold connections open shut nobody out, and a scrape, which takes
// milliseconds, comes through while they open further ones.
type newestListener struct {
	net.Listener
	max int

	mu   sync.Mutex
	open []*newestConn // oldest first
}

// A newestConn tells its listener when it is closed.
type newestConn struct {
	net.Conn
	l *newestListener
}

func (l *newestListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &newestConn{conn, l}
	l.mu.Lock()
	var oldest *newestConn
	if len(l.open) == l.max {
		oldest = l.open[0]
		l.open = slices.Delete(l.open, 0, 1)
	}
	l.open = append(l.open, c)
	l.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
	return c, nil
}

// Close closes the connection.
func (c *newestConn) Close() error {
	c.l.mu.Lock()
	if i := slices.Index(c.l.open, c); i >= 0 {
		c.l.open = slices.Delete(c.l.open, i, i+1)
	}
	c.l.mu.Unlock()
	return c.Conn.Close()
}

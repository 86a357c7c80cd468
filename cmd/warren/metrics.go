package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/warren-dht/warren/hyperdht"
)

// A metricsConfig says where a node's state is served over HTTP: nowhere if at
// is empty. With profile it tells what the process is busy with, too.
type metricsConfig struct {
	at      string
	profile bool
}

// serveMetrics serves a node's counters for Prometheus, and whether it is well.
// The function ends it.
func (a *app) serveMetrics(cfg metricsConfig, node *hyperdht.Node) (stop func(), err error) {
	listener, err := net.Listen("tcp", cfg.at)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(nodeMetrics{node}, collectors.NewGoCollector())
	a.registry = registry
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { health(w, node.RPC().Online()) })
	if cfg.profile {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	server := metricsServer(mux)
	server.ErrorLog = slog.NewLogLogger(a.log.Handler(), slog.LevelDebug) // what clients do wrong
	a.nodeEvent("metrics", netip.MustParseAddrPort(listener.Addr().String()), "")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Serve(&newestListener{Listener: listener, max: metricsMaxConns})
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
		<-ended
	}, nil
}

// health answers 200 if the node is well, else 503.
func health(w http.ResponseWriter, online bool) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !online {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "offline: no request is answered")
		return
	}
	fmt.Fprintln(w, "ok")
}

// register adds to the metrics that are served, if any are.
func (a *app) register(c prometheus.Collector) {
	if a.registry != nil {
		a.registry.MustRegister(c)
	}
}

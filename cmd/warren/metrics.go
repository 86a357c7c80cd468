package main

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
)

// serveMetrics serves a node's counters for Prometheus. The function ends it.
func (a *app) serveMetrics(at string, node *hyperdht.Node) (stop func(), err error) {
	listener, err := net.Listen("tcp", at)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(nodeMetrics{node}, collectors.NewGoCollector())
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	a.nodeEvent("metrics", netip.MustParseAddrPort(listener.Addr().String()), "")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Serve(listener)
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

// nodeMetrics are a node's statistics as Prometheus reads them.
type nodeMetrics struct{ node *hyperdht.Node }

var (
	metricNodes       = metric("routing_table_nodes", "Nodes in the routing table.")
	metricOnline      = metric("online", "1 if requests are answered.")
	metricFirewalled  = metric("firewalled", "1 if strangers cannot reach the node.")
	metricEphemeral   = metric("ephemeral", "1 if the node is not listed by others.")
	metricInflight    = metric("requests_in_flight", "Requests of this node under way.")
	metricRequests    = metric("requests_total", "Requests of this node, by outcome.", "outcome")
	metricRetries     = metric("request_retries_total", "Transmissions of requests after the first.")
	metricQueries     = metric("queries_total", "Queries of this node.")
	metricServed      = metric("served_total", "Requests of others that were answered, by command.", "command")
	metricDropped     = metric("dropped_datagrams_total", "Datagrams that were dropped, by reason.", "reason")
	metricDials       = metric("dials_total", "Connections that were dialled, by outcome.", "outcome")
	metricAccepted    = metric("accepted_total", "Connections that were accepted.")
	metricKeptOut     = metric("kept_out_total", "Connections that a listener did not allow.")
	metricPunches     = metric("punches_total", "Hole punches begun, by kind.", "kind")
	metricRelayed     = metric("relayed_connections_total", "Connections through a blind relay, by outcome.", "outcome")
	metricStreams     = metric("streams", "Streams that exist now.")
	metricForwarded   = metric("forwarded_total", "Messages forwarded for others' connections, by kind.", "kind")
	metricBadRequests = metric("refused_total", "Requests of others that were refused, by reason.", "reason")
)

func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("warren_"+name, help, labels, nil)
}

// Describe implements [prometheus.Collector].
func (m nodeMetrics) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, out) }

// Collect implements [prometheus.Collector].
func (m nodeMetrics) Collect(out chan<- prometheus.Metric) {
	rpc := m.node.RPC()
	s := rpc.Stats()
	gauge := func(d *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	count := func(d *prometheus.Desc, n int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge(metricNodes, float64(s.Nodes))
	gauge(metricOnline, flag(rpc.Online()))
	gauge(metricFirewalled, flag(rpc.Firewalled()))
	gauge(metricEphemeral, flag(rpc.Ephemeral()))
	gauge(metricInflight, float64(s.Requests.Active))
	count(metricRequests, s.Requests.Responses, "answered")
	count(metricRequests, s.Requests.Timeouts, "timeout")
	count(metricRetries, s.Requests.Retries)
	count(metricQueries, s.Queries.Total)
	for _, c := range []struct {
		name  string
		stats dhtrpc.CommandStats
	}{{"ping", s.Ping}, {"ping_nat", s.PingNAT}, {"find_node", s.FindNode}, {"down_hint", s.DownHint}, {"delayed_ping", s.DelayedPing}, {"user", s.User}} {
		count(metricServed, c.stats.Served, c.name)
	}
	count(metricDropped, s.Bad.Malformed, "malformed")
	count(metricDropped, s.Bad.Address, "address")
	count(metricDropped, s.Bad.Unexpected, "unexpected")
	count(metricDropped, s.Bad.Foreign, "foreign")
	count(metricDropped, s.Bad.Suspended, "suspended")
	h := m.node.Stats()
	count(metricDials, int(h.Dials), "begun")
	count(metricDials, int(h.Dialed), "open")
	count(metricAccepted, int(h.Accepted))
	count(metricKeptOut, int(h.Refused))
	count(metricPunches, int(h.PunchesOpen), "open")
	count(metricPunches, int(h.PunchesConsistent), "consistent")
	count(metricPunches, int(h.PunchesRandom), "random")
	count(metricRelayed, int(h.RelaySuccesses), "open")
	count(metricRelayed, int(h.RelayAborts), "failed")
	gauge(metricStreams, float64(h.Streams))
	count(metricForwarded, int(h.Router.Handshakes), "handshake")
	count(metricForwarded, int(h.Router.Holepunches), "holepunch")
	count(metricBadRequests, s.Refused.Tokens, "token")
	count(metricBadRequests, s.Refused.Limits, "limit")
	count(metricBadRequests, s.Refused.TooLarge, "too_large")
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

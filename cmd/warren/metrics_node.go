package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/hyperdht"
	blind "github.com/warren-dht/warren/relay"
)

// nodeMetrics are a node's statistics as Prometheus reads them.
type nodeMetrics struct{ node *hyperdht.Node }

// The RPC node beneath.
var (
	metricNodes       = metric("routing_table_nodes", "Nodes in the routing table.")
	metricOnline      = metric("online", "1 if requests are answered.")
	metricDegraded    = metric("degraded", "1 if more than half of the requests are not answered.")
	metricFirewalled  = metric("firewalled", "1 if strangers cannot reach the node.")
	metricRandomized  = metric("randomized", "1 if each peer sees another port of the node.")
	metricEphemeral   = metric("ephemeral", "1 if the node is not listed by others.")
	metricInflight    = metric("requests_in_flight", "Requests of this node under way.")
	metricRequests    = metric("requests_total", "Requests of this node, by outcome.", "outcome")
	metricRetries     = metric("request_retries_total", "Transmissions of requests after the first.")
	metricCommands    = metric("commands_total", "Requests of this node, by command.", "command")
	metricQueries     = metric("queries_total", "Queries of this node.")
	metricWalking     = metric("queries_active", "Queries of this node under way.")
	metricServed      = metric("served_total", "Requests of others that were answered, by command.", "command")
	metricDropped     = metric("dropped_datagrams_total", "Datagrams that were dropped, by reason.", "reason")
	metricBadRequests = metric("refused_total", "Requests of others that were refused, by reason.", "reason")
)

// Connections.
var (
	metricDials      = metric("dials_total", "Connections that were dialled, by outcome.", "outcome")
	metricAccepted   = metric("accepted_total", "Connections that were accepted.")
	metricKeptOut    = metric("kept_out_total", "Connections that a listener did not allow.")
	metricHandshakes = metric("handshakes_refused_total", "Incoming handshakes that came to nothing, by reason.", "reason")
	metricShaking    = metric("handshakes_active", "Incoming handshakes under way.")
	metricPunches    = metric("punches_total", "Hole punches begun, by kind.", "kind")
	metricRelayed    = metric("relayed_connections_total", "Connections through a blind relay, by outcome.", "outcome")
	metricMoved      = metric("path_changes_total", "Connections that moved, by what they moved to: a direct path, the relay, a path found by dialling again.", "to")
	metricSockets    = metric("punch_sockets", "Extra sockets that are open.")
	metricStreams    = metric("streams", "Streams that exist now.")
	metricForwarded  = metric("forwarded_total", "Messages forwarded for others' connections, by kind.", "kind")
	metricNotPassed  = metric("not_forwarded_total", "Messages for others that were not forwarded, by reason.", "reason")
)

// What is stored for others.
var (
	metricEntries = metric("storage_entries", "Entries stored for others, by kind.", "kind")
	metricBytes   = metric("storage_bytes", "Bytes of the records stored for others, by kind.", "kind")
	metricSources = metric("storage_sources", "Sources whose entries are stored, by kind.", "kind")
	metricAdded   = metric("storage_added_total", "Entries that were new, by kind.", "kind")
	metricRenewed = metric("storage_replaced_total", "Entries that were put again, by kind.", "kind")
	metricRemoved = metric("storage_removed_total", "Entries that went, by kind and reason.", "kind", "reason")
	metricQuota   = metric("storage_over_quota_total", "Entries of a source or network above its quota that were removed, by kind.", "kind")
	metricStorage = metric("storage_requests_total", "Requests to the storage that succeeded, by command.", "command")
	metricUnfit   = metric("storage_refused_total", "Requests to the storage that did not succeed, by reason.", "reason")
	metricCommits = metric("storage_commits_total", "Commits of the durable store, by outcome.", "outcome")
	metricWaiting = metric("storage_waiting", "Changes that wait to be committed.")
)

// A blind relay's own.
var (
	metricSessions = metric("relay_sessions", "Clients of the relay that are connected.")
	metricPairs    = metric("relay_pairs", "Pairs that the relay joins now, and offers that wait, by state.", "state")
	metricPairings = metric("relay_pairings_total", "Offers to be paired, by what became of them.", "outcome")
	metricCarried  = metric("relay_streams_total", "Streams that the relay carried, by what became of them.", "outcome")
)

func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("warren_"+name, help, labels, nil)
}

// A sink takes metrics for Prometheus.
type sink chan<- prometheus.Metric

func (out sink) gauge(d *prometheus.Desc, n int, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
}

func (out sink) flag(d *prometheus.Desc, set bool) {
	n := 0
	if set {
		n = 1
	}
	out.gauge(d, n)
}

func (out sink) count(d *prometheus.Desc, n uint64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

// Describe implements [prometheus.Collector].
func (m nodeMetrics) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, out) }

// Collect implements [prometheus.Collector].
func (m nodeMetrics) Collect(out chan<- prometheus.Metric) {
	rpc := m.node.RPC()
	s := m.node.Stats()
	to := sink(out)
	to.flag(metricOnline, rpc.Online())
	to.flag(metricDegraded, rpc.Degraded())
	to.flag(metricFirewalled, rpc.Firewalled())
	to.flag(metricRandomized, rpc.Randomized())
	to.flag(metricEphemeral, rpc.Ephemeral())
	to.rpc(s.RPC)
	to.connections(s)
	to.storage(s.Storage)
}

func (out sink) rpc(s dhtrpc.Stats) {
	out.gauge(metricNodes, s.Nodes)
	out.gauge(metricInflight, s.Requests.Active)
	out.gauge(metricWalking, s.Queries.Active)
	out.count(metricRequests, uint64(s.Requests.Responses), "answered")
	out.count(metricRequests, uint64(s.Requests.Timeouts), "timeout")
	out.count(metricRetries, uint64(s.Requests.Retries))
	out.count(metricQueries, uint64(s.Queries.Total))
	for _, c := range []struct {
		name  string
		stats dhtrpc.CommandStats
	}{{"ping", s.Ping}, {"ping_nat", s.PingNAT}, {"find_node", s.FindNode}, {"down_hint", s.DownHint}, {"delayed_ping", s.DelayedPing}, {"user", s.User}} {
		out.count(metricServed, uint64(c.stats.Served), c.name)
		out.count(metricCommands, uint64(c.stats.Tx), c.name)
	}
	out.count(metricDropped, uint64(s.Bad.Malformed), "malformed")
	out.count(metricDropped, uint64(s.Bad.Address), "address")
	out.count(metricDropped, uint64(s.Bad.Unexpected), "unexpected")
	out.count(metricDropped, uint64(s.Bad.Foreign), "foreign")
	out.count(metricDropped, uint64(s.Bad.Suspended), "suspended")
	out.count(metricBadRequests, uint64(s.Refused.Tokens), "token")
	out.count(metricBadRequests, uint64(s.Refused.Limits), "limit")
	out.count(metricBadRequests, uint64(s.Refused.TooLarge), "too_large")
	out.count(metricBadRequests, uint64(s.Refused.Panics), "panic")
}

func (out sink) connections(s hyperdht.Stats) {
	out.count(metricDials, s.Dials, "begun")
	out.count(metricDials, s.Dialed, "open")
	out.count(metricAccepted, s.Accepted)
	out.count(metricKeptOut, s.Refused)
	out.count(metricHandshakes, s.BadHandshakes, "bad")
	out.count(metricHandshakes, s.Replays, "replay")
	out.count(metricHandshakes, s.Limited, "limit")
	out.gauge(metricShaking, s.Handshakes)
	out.count(metricPunches, s.PunchesOpen, "open")
	out.count(metricPunches, s.PunchesConsistent, "consistent")
	out.count(metricPunches, s.PunchesRandom, "random")
	out.count(metricPunches, s.PunchesTryLater, "put_off")
	out.count(metricRelayed, s.RelayAttempts, "begun")
	out.count(metricRelayed, s.RelaySuccesses, "open")
	out.count(metricRelayed, s.RelayAborts, "failed")
	out.count(metricMoved, s.Upgrades, "direct")
	out.count(metricMoved, s.Fallbacks, "relay")
	out.count(metricMoved, s.Rejoins, "rejoined")
	out.gauge(metricSockets, int(s.SocketsAdded-s.SocketsRemoved))
	out.gauge(metricStreams, s.Streams)
	out.count(metricForwarded, s.Router.Handshakes, "handshake")
	out.count(metricForwarded, s.Router.Holepunches, "holepunch")
	out.count(metricNotPassed, s.Router.Refused, "refused")
	out.count(metricNotPassed, s.Router.Limited, "limit")
}

func (out sink) storage(s hyperdht.StorageStats) {
	for _, k := range []struct {
		kind  string
		stats hyperdht.StoreStats
	}{{"peer", s.Peers}, {"route", s.Routes}, {"bump", s.Bumps}, {"refresh", s.Refreshes}, {"mutable", s.Mutables}, {"immutable", s.Immutables}} {
		out.gauge(metricEntries, k.stats.Entries, k.kind)
		out.gauge(metricBytes, k.stats.Bytes, k.kind)
		out.gauge(metricSources, k.stats.Sources, k.kind)
		out.count(metricAdded, k.stats.Added, k.kind)
		out.count(metricRenewed, k.stats.Replaced, k.kind)
		out.count(metricRemoved, k.stats.Deleted, k.kind, "deleted")
		out.count(metricRemoved, k.stats.Expired, k.kind, "expired")
		out.count(metricRemoved, k.stats.Evicted, k.kind, "evicted")
		out.count(metricQuota, k.stats.OverQuota, k.kind)
	}
	out.labelled(metricStorage, map[string]uint64{
		"find_peer": s.FindPeer, "lookup": s.Lookup, "announce": s.Announce, "unannounce": s.Unannounce, "refresh": s.Refresh,
		"mutable_put": s.MutablePut, "mutable_get": s.MutableGet, "immutable_put": s.ImmutablePut, "immutable_get": s.ImmutableGet,
		"plugin": s.Plugin,
	})
	out.labelled(metricUnfit, map[string]uint64{
		"seq_reused": s.SeqReused, "seq_too_low": s.SeqTooLow, "malformed": s.Malformed, "target": s.BadTarget,
		"signature": s.BadSignature, "too_large": s.TooLarge, "refresh": s.UnknownRefresh, "plugin": s.UnknownPlugin,
		"suspected": s.Suspected, "bump": s.IgnoredBump, "busy": s.Busy,
	})
	out.count(metricCommits, s.Commits, "done")
	out.count(metricCommits, s.CommitsFailed, "failed")
	out.gauge(metricWaiting, s.Waiting)
}

func (out sink) labelled(d *prometheus.Desc, counts map[string]uint64) {
	for label, n := range counts {
		out.count(d, n, label)
	}
}

// relayMetrics are a blind relay's statistics.
type relayMetrics struct{ stats func() blind.Stats }

// Describe implements [prometheus.Collector].
func (m relayMetrics) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, out) }

// Collect implements [prometheus.Collector].
func (m relayMetrics) Collect(out chan<- prometheus.Metric) {
	s, to := m.stats(), sink(out)
	to.gauge(metricSessions, s.Sessions.Active)
	to.gauge(metricPairs, s.Pairings.Active, "joined")
	to.gauge(metricPairs, s.Pairings.Pending, "waiting")
	to.labelled(metricPairings, map[string]uint64{
		"requested": uint64(s.Pairings.Requested), "refused": uint64(s.Pairings.Refused),
		"matched": uint64(s.Pairings.Matched), "cancelled": uint64(s.Pairings.Cancelled),
	})
	to.labelled(metricCarried, map[string]uint64{
		"opened": uint64(s.Streams.Opened), "closed": uint64(s.Streams.Closed), "failed": uint64(s.Streams.Errors),
	})
}

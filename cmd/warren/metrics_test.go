package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/warren-dht/warren/hyperdht"
	blind "github.com/warren-dht/warren/relay"
)

// fill gives every number in v a value of its own, and tells where it is.
func fill(v reflect.Value, path string, next *int, names map[float64]string) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), path+"."+v.Type().Field(i).Name, next, names)
		}
	case reflect.Int:
		*next++
		v.SetInt(int64(*next))
		names[float64(*next)] = path
	case reflect.Uint64:
		*next++
		v.SetUint(uint64(*next))
		names[float64(*next)] = path
	}
}

// An emitter is a collector of one function.
type emitter func(sink)

func (e emitter) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(e, out) }
func (e emitter) Collect(out chan<- prometheus.Metric) { e(sink(out)) }

// unserved are the numbers that a scrape does not show, by name.
func unserved(t *testing.T, names map[float64]string, emit func(sink)) (left []string) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(emitter(emit))
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	for line := range strings.Lines(w.Body.String()) {
		fields := strings.Fields(line)
		n, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err == nil {
			delete(names, n)
		}
	}
	for _, name := range names {
		left = append(left, name)
	}
	return left
}

// Every counter of a node and of a relay is served, but for those that others
// contain.
func TestMetricsAreComplete(t *testing.T) {
	var s hyperdht.Stats
	next, names := 1000, map[float64]string{}
	fill(reflect.ValueOf(&s).Elem(), "", &next, names)
	s.SocketsAdded = s.SocketsRemoved + 7
	for _, name := range unserved(t, names, func(out sink) { out.rpc(s.RPC); out.connections(s); out.storage(s.Storage) }) {
		switch {
		case strings.HasPrefix(name, ".Storage.Limits."), // configuration
			strings.HasSuffix(name, ".Topics"),                                 // the sum of the entries says as much
			name == ".RPC.Requests.Total",                                      // answered, timeout and in flight
			name == ".RPC.Nodes" || name == ".RPC.Checks",                      // checks pass in a moment
			name == ".SocketsAdded" || name == ".SocketsRemoved",               // their difference is
			strings.HasSuffix(name, ".Rx"), strings.HasSuffix(name, ".Errors"), // by command: only how many
			strings.HasSuffix(name, ".Timeouts"), strings.HasSuffix(name, ".Retries"):
		default:
			t.Errorf("%s is not served", name)
		}
	}
	var r blind.Stats
	names = map[float64]string{}
	fill(reflect.ValueOf(&r).Elem(), "", &next, names)
	for _, name := range unserved(t, names, func(out sink) { relayMetrics{func() blind.Stats { return r }}.Collect(out) }) {
		switch name {
		case ".Sessions.Accepted", ".Sessions.Opened", ".Sessions.Closed", ".Streams.Active": // Active is, and the pairs
		default:
			t.Errorf("relay: %s is not served", name)
		}
	}
}

func TestHealth(t *testing.T) {
	for online, want := range map[bool]int{true: http.StatusOK, false: http.StatusServiceUnavailable} {
		w := httptest.NewRecorder()
		if health(w, online); w.Code != want {
			t.Errorf("online %v: %d, want %d", online, w.Code, want)
		}
	}
}

// fetch returns what a page of the metrics server says.
func fetch(t *testing.T, url string) (status int, body string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 4)
	var at, profiled nodeEvent
	d := n.start("listen", "--echo", "--seed", hex32, "--metrics", "127.0.0.1:0")
	d.event("metrics", &at)
	d.event("listening", nil)
	if got, _ := n.connect("hello", keyHex); got != "hello" {
		t.Errorf("%q", got)
	}
	d.event("closed", nil)
	_, text := fetch(t, "http://"+at.addr()+"/metrics")
	for _, want := range []string{
		"warren_online 1", "warren_ephemeral 1", "warren_accepted_total 1", `warren_requests_total{outcome="timeout"} 0`,
		`warren_storage_entries{kind="mutable"} 0`, `warren_dials_total{outcome="begun"} 0`, `warren_punches_total{kind="random"} 0`, "go_goroutines",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
	if status, text := fetch(t, "http://"+at.addr()+"/healthz"); status != 200 || text != "ok\n" {
		t.Errorf("%d %q", status, text)
	}
	if status, _ := fetch(t, "http://"+at.addr()+"/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("profiles without --pprof: %d", status)
	}
	r := n.start("relay", "--metrics", "127.0.0.1:0", "--pprof")
	r.event("metrics", &profiled)
	r.event("listening", nil)
	if _, text := fetch(t, "http://"+profiled.addr()+"/metrics"); !strings.Contains(text, `warren_relay_pairings_total{outcome="refused"} 0`) {
		t.Errorf("a relay serves\n%s", text)
	}
	if status, _ := fetch(t, "http://"+profiled.addr()+"/debug/pprof/goroutine?debug=1"); status != 200 {
		t.Errorf("profiles: %d", status)
	}
}

package attacks

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/noise"
)

// serverHost is the address of the process under attack, metricsAt that of its
// metrics.
const (
	serverHost = "6.0.0.1"
	metricsAt  = serverHost + ":9100"
)

// A server is a warren process under attack.
type server struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr string // a file
	ended  chan struct{}

	key  hyperdht.PublicKey // of listen and relay
	addr netip.AddrPort

	mu     sync.Mutex
	events []event
	news   chan struct{} // closed at the next event
}

// An event is a line that warren prints with --json.
type event struct {
	Event, PublicKey, RemotePublicKey, Host, Error string
	Port                                           uint16
}

// start runs warren with the arguments until the end of the test, and waits for
// the event that says that it is ready.
func start(t *testing.T, ready string, args ...string) *server {
	t.Helper()
	s := &server{t: t, ended: make(chan struct{}), news: make(chan struct{})}
	s.stderr = filepath.Join(t.TempDir(), "stderr")
	stderr, err := os.Create(s.stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	s.cmd = exec.Command(os.Getenv(programVar), append(args, "--json", "--host", serverHost)...)
	s.cmd.Stderr = stderr
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	go s.read(stdout)
	e, ok := s.wait(ready, 0, 30*time.Second)
	if !ok {
		t.Fatalf("warren %s: no event %q", strings.Join(args, " "), ready)
	}
	if e.PublicKey != "" {
		if s.key, err = noise.ParsePublicKey(e.PublicKey); err != nil {
			t.Fatal(err)
		}
	}
	if e.Host != "" {
		s.addr = netip.AddrPortFrom(netip.MustParseAddr(e.Host), e.Port)
	}
	return s
}

func (s *server) read(stdout io.Reader) {
	defer close(s.ended)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		s.mu.Lock()
		s.events = append(s.events, e)
		close(s.news)
		s.news = make(chan struct{})
		s.mu.Unlock()
	}
}

// count is the number of events with a name so far.
func (s *server) count(name string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if e.Event == name {
			n++
		}
	}
	return n
}

// wait waits for more than the given number of events with a name and returns
// the last one.
func (s *server) wait(name string, more int, limit time.Duration) (e event, ok bool) {
	timeout := time.After(limit)
	for {
		n := 0
		s.mu.Lock()
		for _, x := range s.events {
			if x.Event == name {
				e = x
				n++
			}
		}
		news := s.news
		s.mu.Unlock()
		if n > more {
			return e, true
		}
		select {
		case <-news:
		case <-s.ended:
			return e, false
		case <-timeout:
			return e, false
		}
	}
}

// stop kills the process and waits for its end.
func (s *server) stop() {
	s.cmd.Process.Kill()
	<-s.ended
	s.cmd.Wait()
	if s.t.Failed() {
		if b, _ := os.ReadFile(s.stderr); len(b) > 0 {
			s.t.Logf("stderr ends with\n%s", b[max(0, len(b)-2000):])
		}
	}
}

// memory is the resident memory of the process in bytes, and its peak since the
// last resetPeak.
func (s *server) memory() (now, peak int64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kB, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "VmRSS:":
			now = kB << 10
		case "VmHWM:":
			peak = kB << 10
		}
	}
	return now, peak
}

// resetPeak begins a new measurement of the peak. It returns the memory now.
func (s *server) resetPeak() int64 {
	s.t.Helper()
	// proc(5), /proc/pid/clear_refs: 5 resets the peak.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0); err != nil {
		s.t.Fatal(err)
	}
	now, _ := s.memory()
	return now
}

// settledPeak waits until the peak has not risen for a second, and returns it.
func (s *server) settledPeak(limit time.Duration) (peak int64) {
	for end := time.Now().Add(limit); ; {
		_, now := s.memory()
		if now <= peak+1<<20 || time.Now().After(end) {
			return max(now, peak)
		}
		peak = now
		time.Sleep(time.Second)
	}
}

// metric reads a value from the metrics of a process that was started with
// --metrics metricsAt; ok is false if it does not answer or has no such metric.
func (s *server) metric(name string) (v float64, ok bool) {
	client := http.Client{Timeout: 3 * time.Second}
	r, err := client.Get("http://" + metricsAt + "/metrics")
	if err != nil {
		return 0, false
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(b) {
		if rest, found := strings.CutPrefix(string(line), name+" "); found {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			return v, err == nil
		}
	}
	return 0, false
}

// heap is the memory in bytes that the process's objects take, garbage included.
func (s *server) heap() int64 {
	v, ok := s.metric("go_memstats_heap_inuse_bytes")
	if !ok {
		s.t.Error("the server's metrics do not answer")
	}
	return int64(v)
}

// MB is a number of bytes for people.
func MB(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

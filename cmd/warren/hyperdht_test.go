package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A testNetwork is a running testnet.
type testNetwork struct {
	t         *testing.T
	bootstrap string
	nodes     []hostPort
}

func newTestNetwork(t *testing.T, size int) *testNetwork {
	t.Helper()
	d := start(t, "testnet", "--size", fmt.Sprint(size))
	var ready struct {
		Bootstrap []string
		Nodes     []hostPort
	}
	d.event("ready", &ready)
	if len(ready.Nodes) != size || len(ready.Bootstrap) == 0 {
		t.Fatalf("%+v", ready)
	}
	for _, n := range ready.Nodes {
		if len(n.ID) != 64 || n.Host != "127.0.0.1" {
			t.Errorf("node %+v", n)
		}
	}
	return &testNetwork{t, ready.Bootstrap[0], ready.Nodes}
}

// args are a command's arguments on the network; the first one is its name.
func (n *testNetwork) args(args ...string) []string {
	return append([]string{args[0], "--bootstrap", n.bootstrap, "--host=127.0.0.1"}, args[1:]...)
}

// run runs a command under --json.
func (n *testNetwork) run(args ...string) outcome {
	n.t.Helper()
	return run(n.t, append(n.args(args...), "--json")...)
}

func (n *testNetwork) start(args ...string) *daemon {
	n.t.Helper()
	return start(n.t, n.args(args...)...)
}

func TestNodesOfANetwork(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 25)
	first := n.nodes[0]
	var pong struct {
		From, To hostPort
		RTTMs    float64
	}
	if pongs := lines[struct{ RTTMs float64 }](t, run(t, "ping", first.String(), "--count", "2", "--json")); len(pongs) != 2 {
		t.Errorf("%d pongs", len(pongs))
	}
	run(t, "ping", first.String(), "--json", "--host=127.0.0.1").decode(t, &pong)
	if pong.From.Port != first.Port || pong.To.Host != "127.0.0.1" || pong.RTTMs <= 0 || pong.RTTMs > 1000 {
		t.Errorf("%+v", pong)
	}

	// Exactly the closest twenty, nearest first.
	target := strings.Repeat("5a", 32)
	type found struct {
		hostPort
		RTTMs *float64
	}
	nodes := lines[found](t, n.run("find", target))
	if len(nodes) != 20 {
		t.Fatalf("found %d nodes", len(nodes))
	}
	want := nearest(t, n.nodes, target)
	for i := range nodes {
		if nodes[i].hostPort != want[i] || nodes[i].RTTMs == nil {
			t.Errorf("node %d is %+v, want %+v", i, nodes[i], want[i])
		}
	}

	// A command that no node knows is refused by all.
	if o := n.run("query", "--command", "4711", "--target", target); o.status != 1 || !strings.Contains(o.stderr, "refused it") {
		t.Errorf("%+v", o)
	}
	// LOOKUP is one that they know.
	replies := lines[struct {
		From  hostPort
		Error *int
		Token string
	}](t, n.run("query", "--command", "3", "--target", target))
	if len(replies) < 20 || replies[0].Error == nil || len(replies[0].Token) != 64 {
		t.Errorf("%d replies, the first is %+v", len(replies), replies)
	}
}

// nearest are the nodes by their distance to a target, nearest first.
func nearest(t *testing.T, nodes []hostPort, target string) []hostPort {
	t.Helper()
	distance := func(id string) string {
		var b strings.Builder
		for i := range id {
			var x, y int
			fmt.Sscanf(id[i:i+1], "%x", &x)
			fmt.Sscanf(target[i:i+1], "%x", &y)
			fmt.Fprintf(&b, "%x", x^y)
		}
		return b.String()
	}
	sorted := append([]hostPort(nil), nodes...)
	for i := range sorted {
		for j := i; j > 0 && distance(sorted[j].ID) < distance(sorted[j-1].ID); j-- {
			sorted[j], sorted[j-1] = sorted[j-1], sorted[j]
		}
	}
	return sorted
}

func TestBootstrapAndNode(t *testing.T) {
	t.Parallel()
	b := start(t, "bootstrap", "--host=127.0.0.1", "--port", freeUDPPort(t))
	var ready nodeEvent
	b.event("ready", &ready)
	if ready.Host != "127.0.0.1" || len(ready.ID) != 64 {
		t.Fatalf("%+v", ready)
	}
	dir := t.TempDir()
	d := start(t, "node", "--bootstrap", ready.addr(), "--host=127.0.0.1", "--ephemeral=false", "--firewalled=false",
		"--store", dir)
	var listening nodeEvent
	d.event("listening", &listening)
	d.event("ready", nil)
	d.stop()
	if _, err := os.Stat(filepath.Join(dir, "warren.db")); err != nil {
		t.Error(err)
	}
	many := start(t, "node", "--bootstrap", ready.addr(), "--host=127.0.0.1", "--nodes=3")
	for range 3 {
		many.event("ready", nil)
	}
	if o := run(t, "node", "--store", filepath.Join(dir, "warren.db")); o.status != 1 || !strings.Contains(o.stderr, "--store") {
		t.Errorf("a file in place of the store: %+v", o)
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 8)
	type record struct {
		Hash, PublicKey, Signature string
		Acks                       int
		Seq                        *uint64
		Value, ValueHex            *string
		From                       hostPort
	}
	var put, got record
	n.run("put", "hello world").decode(t, &put)
	if put.Hash != "256c83b297114d201b30179f3f0ef0cace9783622da5974326b436178aeef610" || put.Acks != 8 {
		t.Errorf("%+v", put)
	}
	n.run("get", put.Hash).decode(t, &got)
	if got.Value == nil || *got.Value != "hello world" || got.From.Port == 0 {
		t.Errorf("%+v", got)
	}
	if o := run(t, n.args("get", put.Hash)...).ok(t); o.stdout != "hello world" {
		t.Errorf("for people: %q", o.stdout)
	}
	runWith(t, "\xff\x00", append(n.args("put", "-"), "--json")...).decode(t, &put)
	got = record{}
	n.run("get", put.Hash).decode(t, &got)
	if got.Value != nil || got.ValueHex == nil || *got.ValueHex != "ff00" {
		t.Errorf("%+v", got)
	}
	if o := run(t, n.args("get", put.Hash)...).ok(t); o.stdout != "\xff\x00" {
		t.Errorf("the bytes themselves: %q", o.stdout)
	}
	if o := n.run("get", hex32); o.status != 1 || !strings.Contains(o.stderr, "not found") {
		t.Errorf("%+v", o)
	}

	for seq := uint64(1); seq <= 2; seq++ {
		put, got = record{}, record{}
		text := fmt.Sprint("version ", seq)
		n.run("put", "--mutable", "--seed", hex32, text).decode(t, &put)
		n.run("get", "--mutable", keyHex).decode(t, &got)
		if put.PublicKey != keyHex || *put.Seq != seq || *got.Seq != seq || *got.Value != text || got.Signature != put.Signature || len(got.Signature) != 128 {
			t.Errorf("put %+v, got %+v", put, got)
		}
	}
	n.run("get", "--mutable", keyHex, "--seq=2", "--latest=false").decode(t, &got)
	if o := n.run("get", "--mutable", keyHex, "--seq=3"); o.status != 1 || !strings.Contains(o.stderr, "not found") {
		t.Errorf("a version that is not there: %+v", o)
	}
	if o := n.run("put", "--mutable", "--seed", hex32, "--seq=1", "old"); o.status != 1 || !strings.Contains(o.stderr, "17") {
		t.Errorf("an old version: %+v", o)
	}
}

func TestTopics(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 8)
	topic := "name:a test of topics"
	if o := n.run("lookup", topic); o.status != 1 || !strings.Contains(o.stderr, "nobody") {
		t.Errorf("%+v", o)
	}
	file := filepath.Join(t.TempDir(), "key")
	var announced struct {
		PublicKey, Topic string
		Acks             int
	}
	n.run("announce", topic, "--once", "--seed", hex32).decode(t, &announced)
	if announced.PublicKey != keyHex || announced.Acks != 8 || len(announced.Topic) != 64 {
		t.Errorf("%+v", announced)
	}
	server := n.start("listen", "--echo", "--key", file)
	server.event("listening", nil)
	d := n.start("announce", topic, "--key", file)
	d.event("announced", &announced)
	type peer struct {
		PublicKey      string
		RelayAddresses []hostPort
		From           hostPort
	}
	peers := lines[peer](t, n.run("lookup", announced.Topic))
	if len(peers) != 2 {
		t.Fatalf("%+v", peers)
	}
	for _, p := range peers {
		if relays := len(p.RelayAddresses); p.From.Port == 0 || (relays > 0) != (p.PublicKey == announced.PublicKey) {
			t.Errorf("%+v", p)
		}
	}
	n.run("unannounce", topic, "--seed", hex32).ok(t)
	if peers := lines[peer](t, n.run("lookup", topic)); len(peers) != 1 || peers[0].PublicKey != announced.PublicKey {
		t.Errorf("after one has gone: %+v", peers)
	}
	d.stop() // unannounces
	if o := n.run("lookup", topic); o.status != 1 {
		t.Errorf("after both have gone: %+v", o)
	}
}

type listenEvent struct {
	Event, PublicKey, RemotePublicKey, HandshakeHash, Path string
	RemoteAddress                                          hostPort
	Ms                                                     float64
}

// connect runs connect with something on stdin; the event open is on stderr.
func (n *testNetwork) connect(stdin string, args ...string) (stdout string, open listenEvent) {
	n.t.Helper()
	o := runWith(n.t, stdin, append(n.args(append([]string{"connect"}, args...)...), "--json")...)
	if o.status != 0 {
		n.t.Fatalf("connect %q: %+v", args, o)
	}
	for line := range strings.Lines(o.stderr) {
		var e listenEvent
		decode(n.t, line, &e)
		if e.Event == "open" {
			open = e
		}
	}
	return o.stdout, open
}

func TestListenAndConnect(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 8)
	d := n.start("listen", "--echo", "--seed", hex32)
	var listening, connection listenEvent
	d.event("listening", &listening)
	if listening.PublicKey != keyHex {
		t.Fatalf("%+v", listening)
	}
	big := strings.Repeat("0123456789abcdef", 1<<16)
	got, open := n.connect(big, keyHex)
	if got != big {
		t.Errorf("%d of %d bytes came back", len(got), len(big))
	}
	d.event("connection", &connection)
	if open.HandshakeHash != connection.HandshakeHash || len(open.HandshakeHash) != 128 || open.RemotePublicKey != keyHex ||
		open.Ms <= 0 || (open.Path != "direct" && open.Path != "lan" && open.Path != "punched") || connection.Path == "" {
		t.Errorf("open %+v, connection %+v", open, connection)
	}
	d.event("closed", nil)

	var nobody keyLine
	run(t, "keygen", "--json").decode(t, &nobody)
	if o := n.run("connect", nobody.PublicKey); o.status != 1 || !strings.Contains(o.stderr, "not found") {
		t.Errorf("a key that nobody has: %+v", o)
	}
}

// Logs go to stderr, one record a line, and only what --log-level asks for.
func TestLogs(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 12)
	levels := func(args ...string) map[string]int {
		o := n.run(append([]string{"find", hex32}, args...)...)
		if o.status != 0 || strings.Count(o.stdout, "\n") != 12 {
			t.Errorf("%+v", o)
		}
		count := map[string]int{}
		for line := range strings.Lines(o.stderr) {
			var record struct{ Time, Level, Msg, Addr string }
			decode(t, line, &record)
			if record.Time == "" || record.Msg == "" {
				t.Errorf("%q", line)
			}
			count[record.Level]++
		}
		return count
	}
	if got := levels(); len(got) != 0 {
		t.Errorf("without being asked: %v", got)
	}
	if got := levels("--log-level=info"); got["INFO"] < 3 || got["DEBUG"] != 0 { // listening, ready, close
		t.Errorf("at info: %v", got)
	}
	if got := levels("--log-level=debug"); got["INFO"] < 3 || got["DEBUG"] == 0 { // nodes that were met
		t.Errorf("at debug: %v", got)
	}
	if o := run(t, n.args("find", hex32, "--log-level=info")...); !strings.Contains(o.stderr, "level=INFO msg=ready") {
		t.Errorf("for people: %q", o.stderr)
	}
}

func TestListenExec(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 6)
	var me, other keyLine
	run(t, "keygen", "--json").decode(t, &me)
	run(t, "keygen", "--json").decode(t, &other)
	d := n.start("listen", "--exec", "tr a-z A-Z; echo $WARREN_REMOTE_PUBLIC_KEY", "--seed", hex32, "--allow", me.Z32)
	d.event("listening", nil)
	got, _ := n.connect("hello\n", keyHex, "--seed", me.Seed)
	if got != "HELLO\n"+me.PublicKey+"\n" {
		t.Errorf("%q", got)
	}
	if o := n.run("connect", keyHex, "--seed", other.Seed); o.status != 1 {
		t.Errorf("a key that is not allowed: %+v", o)
	}
}

// A command that does not read what comes is served all the same.
func TestListenExecThatDoesNotRead(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 5)
	d := n.start("listen", "--exec", "exec 0<&-; sleep .3; echo late", "--seed", hex32, "--allow=any")
	d.event("listening", nil)
	if got, _ := n.connect(strings.Repeat("x", 1<<20), keyHex); got != "late\n" {
		t.Errorf("%q", got)
	}
}

// Forwarding a TCP port in both directions, with half-close.
func TestListenToConnectFrom(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 6)
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "you sent %d bytes", len(b))
	})}
	l := listenTCP(t)
	go web.Serve(l)
	t.Cleanup(func() { web.Close() })
	allow := filepath.Join(t.TempDir(), "allowed")
	if err := os.WriteFile(allow, []byte("# friends\n"+keyHex+" # me\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := n.start("listen", "--to", l.Addr().String(), "--allow-file", allow)
	var listening listenEvent
	d.event("listening", &listening)
	c := n.start("connect", listening.PublicKey, "--from", "127.0.0.1:0", "--seed", hex32)
	var at nodeEvent
	c.event("listening", &at)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	for _, size := range []int{0, 3, 1 << 20} {
		r, err := client.Post("http://"+at.addr(), "text/plain", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || string(b) != fmt.Sprintf("you sent %d bytes", size) {
			t.Errorf("%q, %v", b, err)
		}
		c.event("open", nil)
	}
}

// Without a mode one connection gets stdin and stdout, and both commands end by
// themselves.
func TestListenStdio(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 6)
	cmd := command(t.Context(), append(n.args("listen", "--seed", hex32), "--json")...)
	cmd.Stdin = strings.NewReader("from the listener\n")
	var out strings.Builder
	cmd.Stdout = &out
	events, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l := &daemon{t: t, cmd: cmd, events: newScanner(events), stderr: nil}
	var e listenEvent
	l.event("listening", &e)
	big := strings.Repeat("from the dialler ", 100_000)
	got, _ := n.connect(big, e.PublicKey)
	for l.events.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got != "from the listener\n" || out.String() != big {
		t.Errorf("got %q, and %d of %d bytes", got, out.Len(), len(big))
	}
}

// The peer's end ends connect even if stdin stays open.
func TestConnectEndsWithThePeer(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 6)
	d := n.start("listen", "--exec", "echo bye", "--seed", hex32, "--allow=any")
	d.event("listening", nil)
	cmd := command(t.Context(), n.args("connect", keyHex)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	watchdog := time.AfterFunc(limit, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	out, err := cmd.Output()
	if exit, ok := err.(*exec.ExitError); ok {
		t.Fatalf("%v: %s", err, exit.Stderr)
	}
	if err != nil || string(out) != "bye\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestRelay(t *testing.T) {
	t.Parallel()
	n := newTestNetwork(t, 6)
	r := n.start("relay")
	var relay, listening listenEvent
	r.event("listening", &relay)
	d := n.start("listen", "--echo", "--relay-through", relay.PublicKey)
	d.event("listening", &listening)
	got, open := n.connect("through or not", listening.PublicKey, "--relay-through", relay.PublicKey)
	if got != "through or not" || open.Path == "" {
		t.Errorf("%q, %+v", got, open)
	}

	// Where every other way is shut, the relay is the way, to the end.
	shut := []string{"--firewalled=true", "--no-lan", "--no-holepunch"}
	hidden := n.start(append([]string{"listen", "--echo", "--seed", hex32, "--relay-through", relay.PublicKey}, shut...)...)
	hidden.event("listening", nil)
	big := strings.Repeat("0123456789abcdef", 1<<14)
	got, open = n.connect(big, append([]string{keyHex, "--relay-through", relay.PublicKey}, shut...)...)
	if got != big || open.Path != "relayed" {
		t.Errorf("%d of %d bytes, %+v", len(got), len(big), open)
	}
	var connection listenEvent
	if hidden.event("connection", &connection); connection.Path != "relayed" || connection.HandshakeHash != open.HandshakeHash {
		t.Errorf("%+v, %+v", connection, open)
	}
	// A relay that only the client names is used if it is allowed.
	for _, c := range []struct{ allow, path string }{{"any", "relayed"}, {relay.PublicKey, "relayed"}, {keyHex, ""}} {
		server := n.start(append([]string{"listen", "--echo", "--allow-relay", c.allow}, shut...)...)
		server.event("listening", &listening)
		o := n.run(append([]string{"connect", listening.PublicKey, "--json", "--relay-through", relay.PublicKey}, shut...)...)
		if got := strings.Contains(o.stderr+o.stdout, `"path":"relayed"`); got != (c.path != "") {
			t.Errorf("--allow-relay %s: %+v", c.allow, o)
		}
		server.stop()
	}
	alone := n.start("listen", "--echo", "--firewalled=true", "--no-lan")
	alone.event("listening", &listening)
	if o := n.run(append([]string{"connect", listening.PublicKey}, shut...)...); o.status != 1 || strings.Count(o.stderr, "\n") != 1 ||
		!strings.Contains(o.stderr, "peer found; handshake via 127.0.0.1") || !strings.Contains(o.stderr, "--no-holepunch") {
		t.Errorf("without the relay: %+v", o)
	}
}

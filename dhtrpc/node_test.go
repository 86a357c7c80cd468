package dhtrpc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Bad configuration is refused with the field's name.
func TestConfigErrors(t *testing.T) {
	for field, cfg := range map[string]Config{
		"Host":                     {Host: netip.MustParseAddr("::1")},
		"PortEnd":                  {Port: 5, PortEnd: 5},
		"ExactPort":                {ExactPort: true},
		"Bootstrap[1]":             {Bootstrap: []string{"a:1", "nonsense"}},
		"Bootstrap[0]":             {Bootstrap: []string{"a:0"}},
		"Nodes[0]":                 {Nodes: make([]netip.AddrPort, 1)},
		"Ephemeral":                {Ephemeral: 3},
		"Public":                   {Public: netip.MustParseAddrPort("0.0.0.0:1")},
		"Concurrency":              {Concurrency: -1},
		"MaxWindow":                {MaxWindow: -1},
		"MaxPingDelay":             {MaxPingDelay: -1},
		"MaxReply":                 {MaxReply: 10},
		"AdaptiveTimeout":          {AdaptiveTimeout: &AdaptiveTimeout{Min: 2, Max: 1}},
		"AdaptiveTimeout.Fallback": {AdaptiveTimeout: &AdaptiveTimeout{Fallback: []time.Duration{0}}},
	} {
		n, err := Listen(cfg)
		if err == nil {
			n.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), "dhtrpc: Config."+field+": ") {
			t.Errorf("%s: error %v", field, err)
		}
	}
	for _, a := range []string{"0.0.0.0:5", "1.2.3.4:0", "[::1]:5"} {
		if n, err := Bootstrapper(netip.MustParseAddrPort(a), Config{}); err == nil {
			n.Close()
			t.Errorf("a bootstrapper at %s", a)
		}
	}
}

func TestParseBootstrap(t *testing.T) {
	for in, want := range map[string]bootstrapNode{
		"example.org:49737":          {host: "example.org", port: 49737},
		"1.2.3.4:1":                  {host: "1.2.3.4", port: 1},
		"88.99.3.86@node1.org:49737": {suggested: netip.MustParseAddr("88.99.3.86"), host: "node1.org", port: 49737},
	} {
		if got, err := parseBootstrap(in); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "host", "host:", ":1", "host:65536", "host:-1", "[::1]:5", "x@host:1", "::1@host:1", "1.2.3.4@:1"} {
		if got, err := parseBootstrap(in); err == nil {
			t.Errorf("%q was read as %+v", in, got)
		}
	}
}

// docs/spec/dht-rpc.md §5.2.
func TestPorts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := vnet.New(1)
		defer net.Close()
		h := net.Host()
		listen := func(cfg Config) *Node {
			t.Helper()
			cfg.Network = h
			n, err := Listen(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { n.Close() })
			return n
		}
		port := func(n *Node) uint16 { return n.ServerConn().LocalAddr().Port() }
		for want := uint16(41500); want < 41505; want++ {
			if p := port(listen(Config{Port: 41500})); p != want {
				t.Errorf("port %d, want %d", p, want)
			}
		}
		if p := port(listen(Config{Port: 41500})); p >= 41500 && p < 41505 || p == 0 {
			t.Errorf("port %d though the range is taken", p)
		}
		if p := port(listen(Config{Port: 41500, PortEnd: 41501})); p == 41500 {
			t.Error("a taken port")
		}
		_, err := Listen(Config{Network: h, Port: 41500, ExactPort: true})
		if err == nil || !strings.Contains(err.Error(), "Config.Port: ") {
			t.Errorf("an exact port that is taken: %v", err)
		}
		n := listen(Config{Port: 41600, ExactPort: true})
		if port(n) != 41600 || n.ClientConn().LocalAddr().Port() == 41600 {
			t.Errorf("ports %v and %v", n.ServerConn().LocalAddr(), n.ClientConn().LocalAddr())
		}
		if n.Addr() != n.ClientConn().LocalAddr() {
			t.Error("a firewalled node's requests leave through the server socket")
		}
		if a := n.LocalAddr(); a != netip.AddrPortFrom(h.Addr(), 41600) {
			t.Errorf("local address %v", a)
		}
	})
}

// kinds returns the kinds of a stream's events so far, without those about
// single nodes.
func kinds(events []Event) (list []EventKind) {
	for _, e := range events {
		if e.Kind != EventNodeAdded && e.Kind != EventNodeRemoved {
			list = append(list, e.Kind)
		}
	}
	return list
}

// record collects a node's events until it is closed or the context ends.
func record(ctx context.Context, n *Node) (events func() []Event) {
	var list []Event
	seq := n.Events(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range seq {
			list = append(list, e)
		}
	}()
	return func() []Event { synctest.Wait(); return list }
}

// A bootstrapper is persistent without asking anybody. docs/spec/dht-rpc.md §8.3.
func TestBootstrapper(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		n := tn.first
		id, ok := n.ID()
		if a, reachable := n.RemoteAddr(); !ok || id != IDOf(tn.addr()) || n.Firewalled() || n.Ephemeral() || !reachable || a != tn.addr() {
			t.Errorf("id %v %v, firewalled %v, public %v", id, ok, n.Firewalled(), n.PublicAddr())
		}
		if n.TableID() != id || !n.Bootstrapped() || !n.Online() || n.Degraded() || n.Randomized() {
			t.Error("wrong state")
		}
		if s := n.Stats(); s.Requests.Total != 0 {
			t.Errorf("it asked %d times", s.Requests.Total)
		}
	})
}

// The way from the first datagram to persistence: event by event, as
// docs/spec/dht-rpc.md §8.1 lists them.
func TestBecomingPersistent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		n, err := Listen(Config{Network: tn.net.Host(), Ephemeral: Never, Bootstrap: []string{tn.addr().String()}})
		if err != nil {
			t.Fatal(err)
		}
		tn.nodes = append(tn.nodes, n)
		events := record(t.Context(), n)
		tn.ready(n)
		want := []EventKind{EventListening, EventNATUpdate, EventNATUpdate, EventPersistent, EventReady}
		if got := kinds(events()); !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		id, ok := n.ID()
		if !ok || n.Firewalled() || id != IDOf(n.PublicAddr()) || n.PublicAddr().Port() != n.ServerConn().LocalAddr().Port() {
			t.Errorf("id %v %v at %v", id, ok, n.PublicAddr())
		}
		time.Sleep(time.Second) // until it has been verified
		if n.Conn() != n.ServerConn() {
			t.Error("requests do not leave through the server socket")
		}
		if !slices.ContainsFunc(tn.first.Nodes(), func(c Contact) bool { return c.ID == id }) {
			t.Error("the bootstrapper does not list the new node")
		}
		// Who subscribes later learns the state first.
		late := record(t.Context(), n)
		want = []EventKind{EventListening, EventPersistent, EventReady, EventClose}
		n.Close()
		if got := kinds(late()); !slices.Equal(got, want) {
			t.Errorf("a late reader's events %v, want %v", got, want)
		}
		if got := kinds(record(t.Context(), n)()); !slices.Contains(got, EventClose) {
			t.Errorf("events of a closed node %v", got)
		}
	})
}

// By default a node that can be reached stops being firewalled at once, and
// becomes persistent after twenty minutes.
func TestAdaptiveNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 10)
		n := tn.add(Config{})
		events := record(t.Context(), n)
		if n.Firewalled() || !n.Ephemeral() {
			t.Errorf("firewalled %v, ephemeral %v after bootstrapping", n.Firewalled(), n.Ephemeral())
		}
		if _, ok := n.ID(); ok {
			t.Error("an ephemeral node has an id")
		}
		time.Sleep(stableTicks*tickTime - time.Second)
		if !n.Ephemeral() {
			t.Error("persistent before twenty minutes are over")
		}
		time.Sleep(2*tickTime + 10*time.Second)
		if id, ok := n.ID(); !ok || id != IDOf(n.PublicAddr()) || !slices.Contains(kinds(events()), EventPersistent) {
			t.Errorf("not persistent after twenty minutes: %v %v", n.PublicAddr(), kinds(events()))
		}
	})
}

// Sleeping makes an adaptive node ephemeral again, and an hour of reachability
// persistent.
func TestSleepAndPersistAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 10)
		n := tn.add(Config{})
		time.Sleep((stableTicks + 3) * tickTime)
		if n.Ephemeral() {
			t.Fatal("not persistent")
		}
		events := record(t.Context(), n)
		n.Do(func() { n.core.ticked = n.core.ticked.Add(-time.Minute) }) // the machine slept
		time.Sleep(tickTime)
		if got := kinds(events()); !n.Ephemeral() || !slices.Contains(got, EventWakeup) || !slices.Contains(got, EventEphemeral) {
			t.Fatalf("ephemeral %v, events %v", n.Ephemeral(), got)
		}
		time.Sleep((moreStableTicks + 3) * tickTime)
		if n.Ephemeral() {
			t.Error("not persistent an hour later")
		}
	})
}

// Behind a NAT that lets nobody in, a node stays firewalled and ephemeral, and
// never sends from its server socket.
func TestFirewalledNodeStaysEphemeral(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 10)
		for name, cfg := range map[string]vnet.NAT{"cone": vnet.Cone, "symmetric": vnet.Symmetric} {
			for _, mode := range []EphemeralMode{Auto, Never, Always} {
				n := tn.add(Config{Network: tn.net.NAT(cfg).Host(), Ephemeral: mode})
				time.Sleep((stableTicks + 3) * tickTime)
				if !n.Firewalled() || !n.Ephemeral() || n.Conn() != n.ClientConn() {
					t.Errorf("%s, mode %d: firewalled %v, ephemeral %v", name, mode, n.Firewalled(), n.Ephemeral())
				}
				if _, ok := n.RemoteAddr(); ok {
					t.Errorf("%s: has a remote address", name)
				}
				if a := n.PublicAddr(); !a.Addr().IsValid() || n.Randomized() != (name == "symmetric") {
					t.Errorf("%s: public address %v, randomized %v", name, a, n.Randomized())
				}
				if len(n.Nodes()) == 0 {
					t.Errorf("%s: evicted everybody because of its own firewall", name)
				}
				n.Close()
			}
		}
	})
}

// A node that says itself that it is reachable is believed.
func TestFirewalledOverride(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 3)
		n := tn.add(Config{Firewalled: new(bool), Ephemeral: Never})
		if n.Ephemeral() || n.Stats().PingNAT.Tx != 0 {
			t.Errorf("ephemeral %v, %d NAT pings", n.Ephemeral(), n.Stats().PingNAT.Tx)
		}
		n = tn.add(Config{NoQuickFirewall: true})
		if !n.Firewalled() || n.Stats().PingNAT.Tx != 0 {
			t.Errorf("firewalled %v, %d NAT pings without the quick test", n.Firewalled(), n.Stats().PingNAT.Tx)
		}
	})
}

// An isolated node is ready at once and stays ephemeral.
func TestZeroConfig(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := vnet.New(1)
		defer net.Close()
		n, err := Listen(Config{Network: net.Host()})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		began := time.Now()
		if err := n.Ready(t.Context()); err != nil || time.Since(began) != 0 {
			t.Errorf("ready after %v: %v", time.Since(began), err)
		}
		time.Sleep(time.Hour)
		if !n.Ephemeral() || len(n.Nodes()) != 0 {
			t.Error("an isolated node found a network")
		}
	})
}

func TestReadyEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := vnet.New(1)
		defer net.Close()
		h := net.Host()
		n, err := Listen(Config{Network: net.Host(), Bootstrap: []string{netip.AddrPortFrom(h.Addr(), 9).String()}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := n.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ready without a network: %v", err)
		}
		go func() { time.Sleep(time.Second); n.Close() }()
		if err := n.Ready(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("ready of a closed node: %v", err)
		}
		n.Close()
		// A bootstrap node that is dead does not keep a node from being ready.
		n, err = Listen(Config{Network: net.Host(), Bootstrap: []string{netip.AddrPortFrom(h.Addr(), 9).String()}})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		if err := n.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Bootstrap nodes by name: resolved once, the suggested address first.
func TestBootstrapNames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		var lookups atomic.Int32
		resolve := func(_ context.Context, host string) ([]netip.Addr, error) {
			lookups.Add(1)
			if host != "boot.example" {
				return nil, errors.New("no such name")
			}
			return []netip.Addr{netip.MustParseAddr("::1"), tn.addr().Addr()}, nil
		}
		_, dead := tn.deaf()
		for _, tc := range []struct {
			list    []string
			found   bool
			lookups int
		}{
			{[]string{"boot.example:49737"}, true, 1},
			{[]string{tn.addr().Addr().String() + "@wrong.example:49737"}, true, 0},
			{[]string{dead.Addr().String() + "@boot.example:49737"}, true, 1},
			{[]string{"wrong.example:49737"}, false, 0},
			{[]string{"wrong.example:49737", "boot.example:49737"}, true, 0},
		} {
			lookups.Store(0)
			n := tn.add(Config{Bootstrap: tc.list, Resolve: resolve})
			if found := len(n.Nodes()) > 0; found != tc.found {
				t.Errorf("%v: found %v", tc.list, found)
			}
			n.FindNode(ID{}, QueryOptions{}).Run(t.Context())
			if n := int(lookups.Load()); tc.lookups != 0 && n != tc.lookups {
				t.Errorf("%v: %d look-ups, want %d", tc.list, n, tc.lookups)
			}
			n.Close()
		}
	})
}

// A restarted node with a saved table needs no bootstrap node.
func TestWarmStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 30)
		n := tn.add(Config{Ephemeral: Never})
		var file bytes.Buffer
		if err := n.SaveNodes(&file); err != nil {
			t.Fatal(err)
		}
		n.Close()
		tn.first.Close() // every bootstrap host is gone
		nodes, err := ReadNodes(&file)
		if err != nil || len(nodes) < 10 {
			t.Fatalf("%d nodes, %v", len(nodes), err)
		}
		again := tn.add(Config{Ephemeral: Never, Nodes: nodes})
		if again.Ephemeral() {
			t.Error("not persistent")
		}
		target := ID{9}
		q := again.FindNode(target, QueryOptions{})
		if err := q.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := tn.closest(target, again)
		for i, c := range q.Closest() {
			if c.ID != want[i] {
				t.Fatalf("closest node %d is %v, want %v", i, c.ID, want[i])
			}
		}
	})
	for _, in := range []string{"1.2.3.4:5\nnonsense\n", "1.2.3.4:0\n", "[::1]:5\n"} {
		if nodes, err := ReadNodes(strings.NewReader(in)); err == nil {
			t.Errorf("%q was read as %v", in, nodes)
		}
	}
}

func TestSuspendAndResume(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 10)
		n := tn.add(Config{})
		events := record(t.Context(), n)
		server, client := n.ServerConn().LocalAddr(), n.ClientConn().LocalAddr()
		_, dead := tn.deaf()
		failed := make(chan error)
		go func() {
			_, err := n.Ping(t.Context(), dead)
			failed <- err
		}()
		synctest.Wait()
		if err := n.Suspend(); err != nil || !n.Suspended() {
			t.Fatal(err)
		}
		if err := <-failed; !errors.Is(err, ErrSuspended) {
			t.Errorf("a request in flight: %v", err)
		}
		if _, err := n.Ping(t.Context(), tn.addr()); !errors.Is(err, ErrSuspended) {
			t.Errorf("a request while suspended: %v", err)
		}
		if err := n.FindNode(ID{}, QueryOptions{}).Run(t.Context()); !errors.Is(err, ErrSuspended) {
			t.Errorf("a query while suspended: %v", err)
		}
		if err := n.Suspend(); err != nil {
			t.Errorf("suspended twice: %v", err)
		}
		if _, err := tn.first.Ping(t.Context(), server, NoRetry()); !errors.Is(err, ErrTimeout) {
			t.Errorf("a suspended node was reached: %v", err)
		}
		time.Sleep(time.Hour)
		if err := n.Resume(); err != nil {
			t.Fatal(err)
		}
		if n.ServerConn().LocalAddr() != server || n.ClientConn().LocalAddr() != client {
			t.Errorf("ports %v and %v, want the old ones", n.ServerConn().LocalAddr(), n.ClientConn().LocalAddr())
		}
		if err := n.Resume(); err != nil {
			t.Errorf("resumed twice: %v", err)
		}
		if _, err := n.Ping(t.Context(), tn.addr()); err != nil {
			t.Errorf("a request after resuming: %v", err)
		}
		time.Sleep(time.Minute)
		want := []EventKind{EventListening, EventReady, EventSuspend, EventListening, EventWakeup, EventResume}
		if got := kinds(events()); !slices.Equal(got, want) {
			t.Errorf("events %v, want %v", got, want)
		}
		// Suspended, a node can be closed.
		n.Suspend()
		n.Close()
		if err := n.Resume(); !errors.Is(err, ErrClosed) {
			t.Errorf("resumed a closed node: %v", err)
		}
		if err := n.Suspend(); !errors.Is(err, ErrClosed) {
			t.Errorf("suspended a closed node: %v", err)
		}
	})
}

// A bind that fails leaves the node suspended, and can be tried again.
func TestResumeCanBeRetried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		net := vnet.New(1)
		defer net.Close()
		h := net.Host()
		n, err := Listen(Config{Network: h, Port: 5000, ExactPort: true})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		n.Suspend()
		squatter, err := h.Listen(netip.MustParseAddrPort("0.0.0.0:5000"))
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Resume(); err == nil || !n.Suspended() {
			t.Errorf("resumed on a taken port: %v", err)
		}
		squatter.Close()
		if err := n.Resume(); err != nil || n.Suspended() {
			t.Errorf("not resumed: %v", err)
		}
	})
}

func TestClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 5)
		n := tn.add(Config{})
		_, dead := tn.deaf()
		failed := make(chan error, 1)
		go func() {
			_, err := n.Request(t.Context(), dead, Message{Command: 1})
			failed <- err
		}()
		synctest.Wait()
		go n.Close()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if err := <-failed; !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), dead.String()) {
			t.Errorf("a request in flight: %v", err)
		}
		if _, err := n.Ping(t.Context(), tn.addr()); !errors.Is(err, ErrClosed) {
			t.Errorf("a request: %v", err)
		}
		if err := n.FindNode(ID{}, QueryOptions{}).Run(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("a query: %v", err)
		}
		if !n.Closed() || len(n.Nodes()) == 0 {
			t.Error("state of a closed node")
		}
		n.Refresh()
		n.AddNode(dead)
	})
}

// Losing an interface and finding a new one is told, while somebody listens.
func TestNetworkChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		h := tn.net.Host()
		n := tn.add(Config{Network: h})
		events := record(t.Context(), n)
		h.SetUp(false)
		time.Sleep(6 * time.Second)
		got := kinds(events())
		if !slices.Contains(got, EventNetworkChange) || !slices.Contains(got, EventNetworkUpdate) {
			t.Errorf("events %v", got)
		}
	})
}

// Events end with the context, and a reader that never reads holds up nobody.
func TestEventStreamEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		n := tn.add(Config{})
		ctx, cancel := context.WithCancel(t.Context())
		n.Events(ctx) // never read
		for e := range n.Events(ctx) {
			if e.Kind == EventListening {
				break
			}
		}
		go func() { time.Sleep(time.Second); cancel() }()
		last := EventKind(0)
		for e := range n.Events(ctx) {
			last = e.Kind
		}
		if last != EventReady {
			t.Errorf("last event %v", last)
		}
		synctest.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.subscribers) != 0 || n.unwatch != nil {
			t.Errorf("%d readers left", len(n.subscribers))
		}
	})
}

// Sockets of others can be served by a node: its requests leave there, replies
// are matched, requests are answered there, without an id.
func TestForeignSocket(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 3)
		h := tn.net.Host()
		n := tn.add(Config{Network: h, Ephemeral: Never})
		conn, err := h.Listen(netip.AddrPort{})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { udp.Serve(conn, n); close(done) }()
		defer func() { conn.Close(); <-done }()
		r, err := n.Ping(t.Context(), tn.addr(), WithConn(conn), NoRetry())
		if err != nil || r.To.Port() != conn.LocalAddr().Port() || r.Conn != conn {
			t.Errorf("ping: %+v, %v", r, err)
		}
		r, err = tn.first.Ping(t.Context(), netip.AddrPortFrom(h.Addr(), conn.LocalAddr().Port()))
		if err != nil || r.FromID != nil {
			t.Errorf("asked there: %+v, %v", r, err)
		}
		if rest := n.HandleBatch(conn, []udp.Datagram{{Payload: []byte{0}}, {Payload: []byte{3}}, {Payload: []byte{0xff, 1, 2}}}); len(rest) != 3 {
			t.Errorf("claimed %d datagrams that are not the node's", 3-len(rest))
		}
	})
}

func TestPings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 2)
		n := tn.nodes[1]
		if r, err := n.Ping(t.Context(), tn.addr(), WithSize(1000)); err != nil || r.FromID == nil || r.RTT <= 0 {
			t.Errorf("ping: %+v, %v", r, err)
		}
		began := time.Now()
		if r, err := n.DelayedPing(t.Context(), tn.addr(), 3*time.Second); err != nil || r.Err() != nil || r.RTT < 3*time.Second {
			t.Errorf("delayed ping: %+v, %v", r, err)
		}
		if d := time.Since(began); d > 3500*time.Millisecond {
			t.Errorf("took %v", d)
		}
		if s := tn.first.Stats().DelayedPing; s.Served != 1 {
			t.Errorf("asked %d times", s.Served)
		}
		if _, err := n.DelayedPing(t.Context(), tn.addr(), 11*time.Second); !errors.Is(err, ErrDelayTooLong) {
			t.Errorf("too long: %v", err)
		}
		r, err := n.PingNAT(t.Context(), tn.addr(), n.ServerConn().LocalAddr().Port(), WithConn(n.ClientConn()))
		if err != nil || r.To.Port() != n.ServerConn().LocalAddr().Port() || r.Conn != n.ServerConn() {
			t.Errorf("NAT ping: %+v, %v", r, err)
		}
		if _, err := n.Ping(t.Context(), netip.MustParseAddrPort("[::1]:5")); !errors.Is(err, ErrBadAddress) {
			t.Errorf("IPv6: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := n.Ping(ctx, tn.addr()); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

func TestSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 2)
		_, dead := tn.deaf()
		reason := errors.New("reason")
		for _, why := range []error{reason, nil} {
			s := tn.first.NewSession()
			errs := make(chan error)
			for range 3 {
				go func() {
					_, err := tn.first.Request(t.Context(), dead, Message{Command: 1}, WithSession(s))
					errs <- err
				}()
			}
			synctest.Wait()
			s.Close(why)
			want := why
			if why == nil {
				want = ErrSessionClosed
			}
			for range 3 {
				if err := <-errs; !errors.Is(err, want) {
					t.Errorf("error %v, want %v", err, want)
				}
			}
			s.Close(errors.New("later"))
			if _, err := tn.first.Request(t.Context(), dead, Message{}, WithSession(s)); !errors.Is(err, want) {
				t.Errorf("a request in a closed session: %v", err)
			}
			if err := tn.first.FindNode(ID{}, QueryOptions{Session: s}).Run(t.Context()); !errors.Is(err, want) {
				t.Errorf("a query in a closed session: %v", err)
			}
		}
	})
}

// A relayed request is answered by a third node, to the first one.
func TestRelay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		var end netip.AddrPort
		last := tn.add(Config{Ephemeral: Never, Handler: HandlerFunc(func(r *Request) bool {
			if r.Token != nil {
				t.Error("a relayed request has a token")
			}
			first := netip.MustParseAddrPort(string(r.Value))
			r.Reply([]byte("from the end"), To(first))
			return true
		})})
		end = last.PublicAddr()
		middle := tn.add(Config{Ephemeral: Never, Handler: HandlerFunc(func(r *Request) bool {
			r.Relay(end, []byte(r.From.String()))
			return true
		})})
		client := tn.add(Config{})
		r, err := client.Request(t.Context(), middle.PublicAddr(), Message{Command: 5, Value: []byte("x")})
		if err != nil || r.From != end || string(r.Value) != "from the end" || r.FromID == nil {
			t.Errorf("reply %+v, %v", r, err)
		}
	})
}

// A request can be answered later, from another goroutine, once.
func TestDetach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		held := make(chan *Pending, 10)
		n := tn.add(Config{Handler: HandlerFunc(func(r *Request) bool {
			held <- r.Detach()
			if err := r.Reply(nil); err != ErrAnswered {
				t.Errorf("a detached request was answered: %v", err)
			}
			return true
		})})
		to := n.ServerConn().LocalAddr().Port()
		at := netip.AddrPortFrom(n.LocalAddr().Addr(), to)
		go func() {
			time.Sleep(300 * time.Millisecond)
			p := <-held
			if err := p.Reply(p.Value, WithoutToken()); err != nil {
				t.Error(err)
			}
			if err := p.Error(5); err != ErrAnswered {
				t.Errorf("answered twice: %v", err)
			}
			if err := p.Relay(tn.addr(), nil); err != nil {
				t.Error(err)
			}
		}()
		target := ID{1}
		r, err := tn.first.Request(t.Context(), at, Message{Command: 5, Target: &target, Value: []byte("later")})
		if err != nil || string(r.Value) != "later" || r.Token != nil || r.RTT < 300*time.Millisecond {
			t.Errorf("reply %+v, %v", r, err)
		}
		go tn.first.Request(t.Context(), at, Message{Command: 5}, NoRetry())
		p := <-held
		n.Close()
		if err := p.Reply(nil); !errors.Is(err, ErrClosed) {
			t.Errorf("answered by a closed node: %v", err)
		}
	})
}

// A handler that panics answers with an error and is logged; the node lives on.
func TestHandlerPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		var log bytes.Buffer
		n := tn.add(Config{Ephemeral: Never, Logger: slog.New(slog.NewTextHandler(&log, nil)), Handler: HandlerFunc(func(r *Request) bool {
			switch string(r.Value) {
			case "before":
				panic("oh no")
			case "after":
				r.Reply([]byte("x"))
				panic("oh no")
			}
			r.Reply([]byte("fine"))
			return true
		})})
		ask := func(v string) Reply {
			t.Helper()
			r, err := tn.first.Request(t.Context(), n.PublicAddr(), Message{Command: 5, Value: []byte(v)})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if r := ask("before"); r.Error != UnknownCommand {
			t.Errorf("reply %+v", r)
		}
		if r := ask("after"); string(r.Value) != "x" || r.Error != OK {
			t.Errorf("reply %+v", r)
		}
		if r := ask(""); string(r.Value) != "fine" {
			t.Errorf("reply %+v", r)
		}
		if s := n.Stats(); s.Refused.Panics != 2 || strings.Count(log.String(), "oh no") != 2 {
			t.Errorf("%d panics counted, log %q", s.Refused.Panics, log.String())
		}
	})
}

// A stale token draws error 2 and a fresh one; the request does not reach the
// handler. docs/spec/dht-rpc.md §3.
func TestTokens(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		h := new(counter)
		n := tn.add(Config{Ephemeral: Never, Handler: h})
		ask := func(token *[32]byte) Reply {
			t.Helper()
			r, err := tn.first.Request(t.Context(), n.PublicAddr(), Message{Command: 5, Token: token})
			if err != nil || r.Token == nil {
				t.Fatalf("%+v, %v", r, err)
			}
			return r
		}
		first := ask(nil)
		time.Sleep(7 * time.Second)
		if r := ask(first.Token); r.Error != OK || h.committed.Load() != 1 {
			t.Errorf("seven seconds later: %+v", r)
		}
		time.Sleep(9 * time.Second)
		asked := h.asked.Load()
		r := ask(first.Token)
		if !errors.Is(r.Err(), InvalidToken) || h.asked.Load() != asked {
			t.Errorf("sixteen seconds later: %+v", r)
		}
		if r := ask(r.Token); r.Error != OK || h.committed.Load() != 2 {
			t.Errorf("with the fresh token: %+v", r)
		}
	})
}

// A reply that is too large loses closer nodes first, then is refused, unless
// the requester has shown with a token that it is there.
func TestReplySize(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 30)
		size, failed := 0, error(nil)
		n := tn.add(Config{Ephemeral: Never, Handler: HandlerFunc(func(r *Request) bool {
			if failed = r.Reply(make([]byte, size)); failed != nil {
				r.Error(99)
			}
			return true
		})})
		target := ID{1}
		ask := func(token *[32]byte) Reply {
			t.Helper()
			r, err := tn.first.Request(t.Context(), n.PublicAddr(), Message{Command: 5, Target: &target, Token: token})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		size = 1000
		r := ask(nil)
		if len(r.Value) != 1000 || len(r.Closer()) != 20 {
			t.Errorf("%d bytes, %d closer nodes", len(r.Value), len(r.Closer()))
		}
		size = 1100
		if r := ask(nil); len(r.Value) != 1100 || len(r.Closer()) != (DefaultMaxReply-headerSize-64-1-3-1100)/6 {
			t.Errorf("%d bytes, %d closer nodes", len(r.Value), len(r.Closer()))
		}
		size = 1300
		if r := ask(nil); r.Error != 99 || failed != ErrTooLarge {
			t.Errorf("%+v, %v", r, failed)
		}
		if r := ask(r.Token); len(r.Value) != 1300 || failed != nil {
			t.Errorf("with a token: %d bytes, %v", len(r.Value), failed)
		}
		size = 3000
		if r := ask(r.Token); r.Error != 99 {
			t.Errorf("%d bytes left", len(r.Value))
		}
		if s := n.Stats().Refused.TooLarge; s != 2 {
			t.Errorf("%d refusals counted", s)
		}
	})
}

func TestRTTStats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 30)
		s, err := tn.nodes[5].RTTStats(t.Context())
		if err != nil || s.Answers < K || s.Failures != 0 || s.All.Replies != s.Answers || s.Closest.Replies != K {
			t.Errorf("%+v, %v", s, err)
		}
		if s.All.RTT < 10*time.Millisecond || s.Closest.CloserNodes < 10 {
			t.Errorf("%+v", s)
		}
		tn.nodes[5].Close()
		if _, err := tn.nodes[5].RTTStats(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("of a closed node: %v", err)
		}
	})
}

// A node whose public address changes under it gives its id up and takes the new
// one. The reference keeps an id that nobody believes.
func TestReidentification(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 25)
		h := tn.net.Host()
		n := tn.add(Config{Network: h, Ephemeral: Never})
		old, _ := n.ID()
		events := record(t.Context(), n)
		time.Sleep(10 * time.Minute)
		h.Move(tn.net.Segment)
		time.Sleep(3 * time.Hour)
		id, ok := n.ID()
		now := netip.AddrPortFrom(h.Addr(), n.ServerConn().LocalAddr().Port())
		if !ok || id == old || id != IDOf(now) || n.PublicAddr() != now {
			t.Errorf("id %v %v at %v, want that of %v", id, ok, n.PublicAddr(), now)
		}
		if got := kinds(events()); !slices.Contains(got, EventEphemeral) || got[len(got)-1] != EventPersistent {
			t.Errorf("events %v", got)
		}
		// An address that was given by hand is not doubted.
		if _, ok := tn.first.ID(); !ok {
			t.Error("the bootstrapper is not persistent")
		}
	})
}

// Resumed on another port, a node takes the id of its new address.
func TestResumeOnAnotherPort(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 10)
		h := tn.net.Host()
		n := tn.add(Config{Network: h, Ephemeral: Never})
		old := n.ServerConn().LocalAddr()
		n.Suspend()
		squatter, err := h.Listen(old)
		if err != nil {
			t.Fatal(err)
		}
		defer squatter.Close()
		if err := n.Resume(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		now := netip.AddrPortFrom(h.Addr(), n.ServerConn().LocalAddr().Port())
		if id, ok := n.ID(); !ok || id != IDOf(now) || now.Port() == old.Port() {
			t.Errorf("id %v %v, want that of %v", id, ok, now)
		}
	})
}

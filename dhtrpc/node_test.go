package dhtrpc

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/vnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// A list of bootstrap nodes may hold the node that it is given to. It does not
// ask itself then, and above all does not prove to itself that it is reachable.
func TestBootstrapListHoldsTheNodeItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		h := tn.net.Host()
		self := netip.AddrPortFrom(h.Addr(), 49737)
		list := []string{self.String(), tn.addr().String()}
		n, err := Bootstrapper(self, Config{Network: h, Bootstrap: list})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		tn.ready(n)
		if s := n.Stats(); s.FindNode.Served != 0 || s.FindNode.Tx == 0 {
			t.Errorf("it answered %d searches, of %d that it made", s.FindNode.Served, s.FindNode.Tx)
		}

		h = tn.net.Firewall(vnet.Firewall{Filtering: nat.AddressAndPortDependentFiltering}).Host()
		self = netip.AddrPortFrom(h.Addr(), 49737)
		list = []string{self.String(), tn.addr().String()}
		shut := tn.add(Config{Network: h, Port: self.Port(), ExactPort: true, Bootstrap: list, Ephemeral: Never})
		if !shut.Firewalled() || !shut.Ephemeral() {
			t.Errorf("firewalled %v, ephemeral %v behind a firewall", shut.Firewalled(), shut.Ephemeral())
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

// A node whose public address changes under it gives its id up and takes the new
// one. The reference keeps an id that nobody believes.
func TestReidentification(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 12)
		h := tn.net.Host()
		n := tn.add(Config{Network: h, Ephemeral: Never})
		old, _ := n.ID()
		events := record(t.Context(), n)
		time.Sleep(10 * time.Minute)
		h.Move(tn.net.Segment)
		time.Sleep(2 * time.Hour)
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

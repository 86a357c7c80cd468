package mainline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/vnet"
)

func TestBootstrapNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 3)
		defer tn.close()
		var names sync.Map // of netip.Addr
		names.Store("one.test", tn.nodes[0].Addr().Addr())
		resolve := func(_ context.Context, host string) ([]netip.Addr, error) {
			if ip, ok := names.Load(host); ok {
				return []netip.Addr{ip.(netip.Addr)}, nil
			}
			return nil, errors.New("no such host")
		}
		start := func(boot []string) *Node {
			h := tn.inet.Host()
			n, err := Listen(Config{Network: h, Addrs: []netip.AddrPort{netip.AddrPortFrom(h.Addr(), 1)}, Bootstrap: boot, Resolve: resolve})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		n := start([]string{"one.test:6881", "two.test:6881"})
		if err := n.Ready(t.Context()); err != nil || len(n.Nodes()) == 0 {
			t.Errorf("one of two names: %v, %v", err, n.Nodes())
		}
		n.Close()
		n = start([]string{"two.test:6881", "three.test:1"})
		if err := n.Ready(t.Context()); !errors.Is(err, ErrBootstrap) || !strings.Contains(err.Error(), "two.test") {
			t.Errorf("no name: %v", err)
		}
		// It tries again, and finds them when names work.
		names.Store("two.test", tn.nodes[1].Addr().Addr())
		time.Sleep(2 * time.Minute)
		if len(n.Nodes()) == 0 {
			t.Error("it did not try again")
		}
		n.Close()
		n = start([]string{})
		if err := n.Ready(t.Context()); err != nil {
			t.Errorf("no bootstrap: %v", err)
		}
		n.Close()
		// Nobody answers: ready all the same.
		n = start([]string{"99.0.0.1:1"})
		if err := n.Ready(t.Context()); err != nil || len(n.Nodes()) != 0 {
			t.Errorf("a dead bootstrap node: %v", err)
		}
		n.Close()
		if err := n.Ready(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}

func TestConfigErrors(t *testing.T) {
	for want, c := range map[string]Config{
		"Config.Bootstrap[1]": {Bootstrap: []string{"a:1", "b"}},
		"Config.Hash":         {Hash: func([]byte) []byte { return make([]byte, 16) }},
		"Config.ID":           {ID: testID, Hash: func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }},
		"Config.Addrs[0]":     {Addrs: []netip.AddrPort{netip.MustParseAddrPort("224.0.0.1:1")}},
		"Config.Host":         {Host: netip.IPv4Unspecified()},
		"Config.Concurrency":  {Concurrency: -1},
		"Config.BucketAge":    {BucketAge: -1},
	} {
		if n, err := Listen(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
			if n != nil {
				n.Close()
			}
		}
	}
}

func mustMake(s string) ID {
	id, err := MakeID([]byte(s))
	if err != nil {
		panic(err)
	}
	return id
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 10)
		n := tn.nodes[4]
		counts := make(map[EventKind]int)
		done := make(chan struct{})
		events := n.Events(t.Context())
		go func() {
			defer close(done)
			for e := range events {
				counts[e.Kind]++
				if e.Kind == EventAnnounce && (e.ID != hashOf("x") || e.Addr.Port() != 5) {
					t.Errorf("%+v", e)
				}
			}
		}()
		if _, err := tn.nodes[5].Announce(t.Context(), hashOf("x"), AnnounceOptions{Port: 5}); err != nil {
			t.Fatal(err)
		}
		for range n.Lookup(hashOf("x")).Peers(t.Context()) {
		}
		tn.add(nil)
		n.sockets[0].HandleBatch(n.sockets[0].conn, nil)
		tn.close()
		<-done
		for _, k := range []EventKind{EventListening, EventReady, EventPeer, EventNode, EventAnnounce, EventClose} {
			if counts[k] == 0 {
				t.Errorf("no %v event", k)
			}
		}
		if EventKind(0).String() != "unknown" || EventPeer.String() != "peer" {
			t.Error("names of events")
		}
		for e := range n.Events(t.Context()) { // of a closed node: what was, and the end
			counts[e.Kind]++
		}
		if counts[EventClose] != 2 {
			t.Error("a closed node's events do not end")
		}
	})
}

func TestWarnings(t *testing.T) {
	play(t, nil, func(s *stage) {
		a := s.actor()
		ctx, cancel := context.WithCancel(s.Context())
		events := s.node.Events(ctx)
		a.send([]byte("d1:x"))
		time.Sleep(time.Second)
		for e := range events {
			if e.Kind == EventWarning {
				if e.Addr != a.addr || e.Err == nil {
					t.Errorf("%+v", e)
				}
				break
			}
		}
		cancel()
	})
}

func TestSocketGone(t *testing.T) {
	d := newDesk()
	n, err := Listen(Config{Network: d, NoBootstrap: true})
	if err != nil {
		t.Fatal(err)
	}
	events := n.Events(t.Context())
	d.Close()
	for e := range events {
		if e.Kind == EventError {
			break
		}
	}
	if _, err := n.Ping(t.Context(), stranger); !errors.Is(err, ErrClosed) {
		t.Errorf("ping: %v", err)
	}
	n.Close()
}

func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 20)
		defer tn.close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		item := Sign(seed, nil, 1, StringValue("kept"))
		puts := 0
		ended := make(chan error, 1)
		go func() {
			ended <- tn.nodes[3].Keep(ctx, item, func(st Stored, err error) {
				var refused *Error
				if puts++; !errors.As(err, &refused) && (err != nil || st.N() < K) {
					t.Errorf("put %d: %+v, %v", puts, st, err)
				}
			})
		}()
		announces := 0
		go tn.nodes[4].KeepAnnounced(ctx, hashOf("x"), AnnounceOptions{Port: 3}, func(Stored, error) { announces++ })
		time.Sleep(10*time.Hour + time.Minute)
		synctest.Wait()
		if puts < 9 || puts > 12 || announces < 36 || announces > 46 {
			t.Errorf("in ten hours %d puts and %d announces", puts, announces)
		}
		f, err := tn.nodes[9].GetMutable(ctx, item.Key, nil, GetOptions{NoCache: true})
		if err != nil || f.Agree < K/2 {
			t.Errorf("%+v, %v", f, err)
		}
		// Somebody publishes a newer one: the keeper gives up.
		if _, err := tn.nodes[7].Put(ctx, Sign(seed, nil, 2, StringValue("newer"))); err != nil {
			t.Fatal(err)
		}
		var refused *Error
		if err := <-ended; !errors.As(err, &refused) || refused.Code != CodeSeqTooLow {
			t.Errorf("keep: %v", err)
		}
	})
}

// TestLongIDs: a network whose hash has 32 bytes.
func TestLongIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hash := func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
		tn := newTestnet(t, 20, func(_ int, c *Config) { c.Hash = hash })
		defer tn.close()
		if n := len(tn.nodes[0].ID().Bytes()); n != 32 {
			t.Fatalf("ids of %d bytes", n)
		}
		for _, i := range []Item{{Value: StringValue("x")}, Sign(seed, []byte("s"), 1, StringValue("y"))} {
			st, err := tn.nodes[2].Put(t.Context(), i)
			if err != nil || st.N() != K {
				t.Fatalf("%+v, %v", st, err)
			}
			if want := hash(i.Value); !i.Mutable() && !bytes.Equal(st.Target.Bytes(), want) {
				t.Errorf("target %v, want %x", st.Target, want)
			}
			f, err := tn.nodes[15].Get(t.Context(), st.Target, GetOptions{Salt: i.Salt, NoCache: true})
			if err != nil || !bytes.Equal(f.Value, i.Value) {
				t.Errorf("%+v, %v", f, err)
			}
		}
		info := mustMake(strings.Repeat("i", 32))
		if _, err := tn.nodes[4].Announce(t.Context(), info, AnnounceOptions{}); err != nil {
			t.Error(err)
		}
		found := 0
		for range tn.nodes[12].Lookup(info).Peers(t.Context()) {
			found++
		}
		if found != 1 {
			t.Errorf("%d peers", found)
		}
		if s, err := tn.nodes[12].Closest(t.Context(), info); err != nil || len(s) != K {
			t.Errorf("%v, %v", s, err)
		}
	})
}

// TestBothFamilies: nodes with a socket of each family make two networks; the
// one of IPv6 is begun with what nodes of IPv4 know.
func TestBothFamilies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inet := vnet.New(1)
		defer inet.Close()
		var nodes []*Node
		var boot []string
		for i := range 20 {
			four := netip.AddrFrom4([4]byte{20, byte(i), 0, 1})
			six := netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: byte(i), 15: 1})
			h := inet.Host(four, six)
			n, err := Listen(Config{
				Network: h, Bootstrap: boot, NoBootstrap: boot == nil, Rand: rand.NewPCG(uint64(i), 1),
				Addrs: []netip.AddrPort{netip.AddrPortFrom(four, 6881), netip.AddrPortFrom(six, 6881)},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer n.Close()
			if err := n.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			if nodes = append(nodes, n); boot == nil {
				boot = []string{n.Addr().String(), netip.AddrPortFrom(six, 6881).String()}
			}
			if i == 1 {
				boot = boot[:1] // the others know a node of IPv4 only
			}
		}
		for i, s := range nodes[15].Stats().Sockets {
			if s.Nodes < K || s.ID == nodes[15].Stats().Sockets[1-i].ID {
				t.Errorf("socket %d: %+v", i, s)
			}
		}
		st, err := nodes[5].Announce(t.Context(), hashOf("x"), AnnounceOptions{Port: 9})
		if err != nil || st.N() != 2*K {
			t.Errorf("%d stored, %v", st.N(), err)
		}
		var got []string
		for p := range nodes[12].Lookup(hashOf("x")).Peers(t.Context()) {
			got = append(got, p.Addr.String())
		}
		slices.Sort(got)
		if want := []string{"20.5.0.1:9", "[2001:d05::1]:9"}; !slices.Equal(got, want) {
			t.Errorf("peers %v, want %v", got, want)
		}
		if put, err := nodes[5].Put(t.Context(), Item{Value: StringValue("x")}); err != nil || put.N() != 2*K {
			t.Errorf("%d stored, %v", put.N(), err)
		}
	})
}

// TestSeveralAddresses: a node with two addresses of a family is two nodes of
// the network (BEP 45), and announces from each.
func TestSeveralAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 20)
		defer tn.close()
		a, b := netip.MustParseAddr("101.0.0.1"), netip.MustParseAddr("102.0.0.1")
		h := tn.inet.Host(a, b)
		n, err := Listen(Config{Network: h, Bootstrap: tn.boot, Addrs: []netip.AddrPort{netip.AddrPortFrom(a, 1), netip.AddrPortFrom(b, 1)}})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		if err := n.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		st := n.Stats().Sockets
		if len(st) != 2 || st[0].ID == st[1].ID || st[0].Nodes < K || st[1].Nodes < K {
			t.Errorf("%+v", st)
		}
		if !IsSecure(st[0].ID, a) || !IsSecure(st[1].ID, b) {
			t.Error("the ids do not belong to the addresses")
		}
		if _, err := n.Announce(t.Context(), hashOf("x"), AnnounceOptions{}); err != nil {
			t.Fatal(err)
		}
		var got []netip.Addr
		for p := range tn.nodes[8].Lookup(hashOf("x")).Peers(t.Context()) {
			got = append(got, p.Addr.Addr())
		}
		slices.SortFunc(got, netip.Addr.Compare)
		if !slices.Equal(got, []netip.Addr{a, b}) {
			t.Errorf("peers %v", got)
		}
	})
}

func TestRequireSecureIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 30, func(i int, c *Config) {
			if i >= 10 && i < 20 { // liars
				c.ID = hashOf(string(rune('a' + i)))
			}
			c.RequireSecureIDs = true
		})
		defer tn.close()
		st, err := tn.nodes[25].Announce(t.Context(), hashOf("x"), AnnounceOptions{})
		if err != nil || st.N() == 0 {
			t.Fatal(st, err)
		}
		for _, c := range st.Nodes {
			if !IsSecure(c.ID, c.Addr.Addr()) {
				t.Errorf("stored at %v", c)
			}
		}
	})
}

func TestSingleNodeQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 20)
		defer tn.close()
		a, b := tn.nodes[3], tn.nodes[9]
		mapped := netip.AddrPortFrom(netip.AddrFrom16(b.Addr().Addr().As16()), b.Addr().Port())
		for _, addr := range []netip.AddrPort{b.Addr(), mapped} {
			if c, err := a.Ping(t.Context(), addr); err != nil || c != (Contact{b.ID(), b.Addr()}) {
				t.Errorf("%v, %v", c, err)
			}
		}
		if list, err := a.FindNode(t.Context(), b.Addr(), hashOf("x")); err != nil || len(list) != K {
			t.Errorf("%v, %v", list, err)
		}
		if _, err := tn.nodes[5].Announce(t.Context(), hashOf("x"), AnnounceOptions{}); err != nil {
			t.Fatal(err)
		}
		found := false
		for _, n := range tn.nodes {
			if n == a {
				continue
			}
			s, err := a.Sample(t.Context(), n.Addr(), hashOf("x"))
			if err != nil || len(s.Nodes) == 0 || s.Node.ID != n.ID() {
				t.Errorf("%+v, %v", s, err)
			}
			found = found || slices.Contains(s.Hashes, hashOf("x"))
		}
		if !found {
			t.Error("nobody's sample has the info-hash")
		}
		if _, err := a.Ping(t.Context(), netip.MustParseAddrPort("99.9.9.9:1")); !errors.Is(err, ErrTimeout) {
			t.Errorf("a dead address: %v", err)
		}
		if _, err := a.Ping(t.Context(), netip.MustParseAddrPort("0.0.0.0:1")); err == nil {
			t.Error("0.0.0.0 was asked")
		}
		if _, err := a.Ping(t.Context(), netip.MustParseAddrPort("[2001:db8::1]:1")); err == nil {
			t.Error("an IPv6 node was asked over IPv4")
		}
		a.RemoveNode(b.ID())
		if slices.ContainsFunc(a.Nodes(), func(c Contact) bool { return c.ID == b.ID() }) {
			t.Error("the removed node is still there")
		}
	})
}

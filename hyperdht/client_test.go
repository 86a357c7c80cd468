package hyperdht

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// A recordsNet is a virtual network of storing nodes, for a bubble.
type recordsNet struct {
	*testing.T
	net    *vnet.Network
	limits StoreLimits
	liar   func(*dhtrpc.Request) bool // if not nil, serves before the node does
	boot   string
	nodes  []*Node
}

// newRecordsNet makes a network of that many persistent nodes.
func newRecordsNet(t *testing.T, size int) *recordsNet {
	t.Helper()
	return newLimitedNet(t, size, StoreLimits{})
}

func newLimitedNet(t *testing.T, size int, limits StoreLimits) *recordsNet {
	t.Helper()
	tn := &recordsNet{T: t, net: vnet.New(1), limits: limits}
	t.Cleanup(tn.net.Close)
	for range size {
		tn.add(nil, nil, dhtrpc.Never)
	}
	return tn
}

// add starts a node, on a host of its own if none is given, and waits until it
// is ready.
func (tn *recordsNet) add(h *vnet.Host, store Store, mode dhtrpc.EphemeralMode) *Node {
	tn.Helper()
	if h == nil {
		h = tn.net.Host()
	}
	return tn.addOn(h, store, mode)
}

func (tn *recordsNet) addOn(h udp.Network, store Store, mode dhtrpc.EphemeralMode) *Node {
	tn.Helper()
	n, stop := tn.start(h, store, mode)
	tn.Cleanup(stop)
	tn.nodes = append(tn.nodes, n)
	return n
}

// start starts a node and waits until it is ready; the function stops it.
func (tn *recordsNet) start(h udp.Network, store Store, mode dhtrpc.EphemeralMode) (*Node, func()) {
	tn.Helper()
	seed := uint64(len(tn.nodes))
	records, known, err := newRecords(tn.limits, store, rand.New(rand.NewPCG(seed, 0)), nil)
	if err != nil {
		tn.Fatal(err)
	}
	n := &Node{records: records}
	serve := records.serve
	if liar := tn.liar; liar != nil {
		serve = func(r *dhtrpc.Request) bool { return liar(r) || records.serve(r) }
	}
	cfg := dhtrpc.Config{Network: h, Handler: dhtrpc.HandlerFunc(serve), Ephemeral: mode, Nodes: known, Rand: rand.NewPCG(seed, 1)}
	if tn.boot == "" {
		addr := netip.AddrPortFrom(h.(*vnet.Host).Addr(), 49737)
		n.rpc, err = dhtrpc.Bootstrapper(addr, cfg)
		tn.boot = addr.String()
	} else {
		cfg.Bootstrap = []string{tn.boot}
		n.rpc, err = dhtrpc.Listen(cfg)
	}
	if err != nil {
		tn.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.ctx = ctx
	done := make(chan struct{})
	go func() {
		defer close(done)
		records.run(ctx, n.rpc)
	}()
	if err := n.rpc.Ready(tn.Context()); err != nil {
		tn.Fatal(err)
	}
	var once sync.Once
	return n, func() {
		once.Do(func() {
			cancel()
			<-done
			n.rpc.Close()
		})
	}
}

func inNet(t *testing.T, size int, f func(tn *recordsNet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newRecordsNet(t, size)) })
}

func (tn *recordsNet) must(why string, err error) {
	tn.Helper()
	if err != nil {
		tn.Errorf("%s: %v", why, err)
	}
}

func TestImmutablePutGet(t *testing.T) {
	inNet(t, 30, func(tn *recordsNet) {
		ctx := tn.Context()
		for _, size := range []int{0, 1, 500, MaxImmutableValue} {
			value := bytes.Repeat([]byte{7}, size)
			s, err := tn.nodes[3].ImmutablePut(ctx, value, PutOptions{})
			tn.must("put", err)
			if len(s.Nodes) != dhtrpc.K || len(s.Refused) != 0 || s.Target != Hash(value) {
				tn.Errorf("stored at %d nodes, refused by %v", len(s.Nodes), s.Refused)
			}
			r, err := tn.nodes[17].ImmutableGet(ctx, s.Target)
			tn.must("get", err)
			if !bytes.Equal(r.Value, value) || r.Value == nil || !r.From.IsValid() || r.To.Addr() != tn.nodes[17].rpc.PublicAddr().Addr() {
				tn.Errorf("%d bytes: %+v", size, r)
			}
		}
		if _, err := tn.nodes[5].ImmutableGet(ctx, topic); !errors.Is(err, ErrNotFound) {
			tn.Error(err)
		}
		if _, err := tn.nodes[5].ImmutablePut(ctx, make([]byte, MaxImmutableValue+1), PutOptions{}); !errors.Is(err, ErrValueTooLarge) {
			tn.Error(err)
		}
		s, err := tn.nodes[5].ImmutablePut(ctx, make([]byte, 1300), PutOptions{MaxValue: 1300})
		tn.must("a large one, on request", err)
		if len(s.Nodes) != dhtrpc.K {
			tn.Errorf("stored at %d nodes", len(s.Nodes))
		}
	})
}

func TestMutablePutGet(t *testing.T) {
	inNet(t, 30, func(tn *recordsNet) {
		ctx := tn.Context()
		key := testKey(1)
		writer, reader := tn.nodes[3], tn.nodes[17]
		put := func(seq uint64, value string) error {
			r, s, err := writer.MutablePut(ctx, key, seq, []byte(value), PutOptions{})
			if err == nil && (r.Verify() != nil || len(s.Nodes) != dhtrpc.K) {
				tn.Errorf("seq %d: %d nodes, refused %v", seq, len(s.Nodes), s.Refused)
			}
			return err
		}
		get := func(o GetOptions) (MutableResult, error) { return reader.MutableGet(ctx, keyOf(key), o) }
		if _, err := get(GetOptions{}); !errors.Is(err, ErrNotFound) {
			tn.Error(err)
		}
		tn.must("put", put(4, "four"))
		tn.must("put again", put(4, "four"))
		if err := put(4, "other"); !errors.Is(err, SeqReused) {
			tn.Error("reused:", err)
		}
		if err := put(3, "three"); !errors.Is(err, SeqTooLow) {
			tn.Error("too low:", err)
		}
		tn.must("put", put(5, ""))
		r, err := get(GetOptions{})
		tn.must("get", err)
		if r.Seq != 5 || r.Value == nil || len(r.Value) != 0 || r.Replicas < dhtrpc.K-1 || r.PublicKey != keyOf(key) {
			tn.Errorf("%+v", r)
		}
		_, err = get(GetOptions{Seq: 5, First: true})
		tn.must("first", err)
		if _, err := get(GetOptions{Seq: 6}); !errors.Is(err, ErrNotFound) {
			tn.Error(err)
		}
		if _, _, err := writer.MutablePut(ctx, key, 6, make([]byte, MaxMutableValue+1), PutOptions{}); !errors.Is(err, ErrValueTooLarge) {
			tn.Error(err)
		}
	})
}

// A record that some nodes hold in an older version: the latest wins, and a
// refresh brings it to all of them, without the key.
func TestMutableRefresh(t *testing.T) {
	inNet(t, 30, func(tn *recordsNet) {
		ctx := tn.Context()
		key := testKey(1)
		old, _, err := tn.nodes[3].MutablePut(ctx, key, 1, []byte("old"), PutOptions{})
		tn.must("put", err)
		newer, _ := SignMutable(key, 2, []byte("new"))
		holder := tn.nodes[9] // one node alone has the newer one
		holder.rpc.Do(func() {
			holder.records.storage.mutables.Put(time.Now(), newer.Target(), newer.wire().append(nil), source{1})
		})
		var asked []uint64
		r, err := tn.nodes[17].MutableGet(ctx, keyOf(key), GetOptions{Refresh: func(m MutableRecord) bool {
			asked = append(asked, m.Seq)
			return true
		}})
		tn.must("get", err)
		holderIsClose := slices.ContainsFunc(r.Refreshed.Nodes, func(c dhtrpc.Contact) bool { return c.Addr == holder.rpc.PublicAddr() })
		if !holderIsClose {
			tn.Skip("the chosen node is not among the closest")
		}
		if r.Seq != 2 || !slices.Equal(asked, []uint64{2}) || len(r.Refreshed.Nodes) != dhtrpc.K {
			tn.Errorf("seq %d, asked about %v, refreshed at %d", r.Seq, asked, len(r.Refreshed.Nodes))
		}
		if r, err = tn.nodes[18].MutableGet(ctx, keyOf(key), GetOptions{}); err != nil || r.Replicas < dhtrpc.K-1 || r.Seq != 2 {
			tn.Errorf("%d replicas of seq %d, %v", r.Replicas, r.Seq, err)
		}
		if _, err := tn.nodes[4].PutRecord(ctx, old, PutOptions{}); !errors.Is(err, SeqTooLow) {
			tn.Error(err)
		}
		_, err = tn.nodes[4].PutRecord(ctx, newer, PutOptions{})
		tn.must("keeping somebody's record alive", err)
		newer.Value = []byte("forged")
		if _, err := tn.nodes[4].PutRecord(ctx, newer, PutOptions{}); !errors.Is(err, ErrBadSignature) {
			tn.Error(err)
		}
	})
}

func (tn *recordsNet) lookup(n *Node, topic Target) map[PublicKey][]netip.AddrPort {
	tn.Helper()
	out := map[PublicKey][]netip.AddrPort{}
	for p, err := range n.Lookup(tn.Context(), topic) {
		tn.must("lookup", err)
		out[p.PublicKey] = p.Relays
	}
	return out
}

func TestAnnounceAndLookup(t *testing.T) {
	inNet(t, 30, func(tn *recordsNet) {
		ctx := tn.Context()
		relays := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2")}
		s, err := tn.nodes[3].Announce(ctx, topic, testKey(1), AnnounceOptions{Relays: relays, Bump: 77})
		tn.must("announce", err)
		if len(s.Nodes) != dhtrpc.K {
			tn.Errorf("announced at %d nodes: %v", len(s.Nodes), s.Refused)
		}
		var met []FoundPeer
		_, err = tn.nodes[4].Announce(ctx, topic, testKey(2), AnnounceOptions{Found: func(p FoundPeer) { met = append(met, p) }})
		tn.must("announce", err)
		if len(met) == 0 || met[0].PublicKey != keyOf(testKey(1)) || met[0].Bump != 77 || !met[0].From.IsValid() {
			tn.Errorf("met %v", met)
		}
		found := tn.lookup(tn.nodes[17], topic)
		if len(found) != 2 || !slices.Equal(found[keyOf(testKey(1))], relays) {
			tn.Errorf("found %v", found)
		}
		// Other relays have no effect on young records, unless they are cleared.
		_, err = tn.nodes[3].Announce(ctx, topic, testKey(1), AnnounceOptions{})
		tn.must("announce", err)
		if found := tn.lookup(tn.nodes[17], topic); len(found[keyOf(testKey(1))]) != 2 {
			tn.Errorf("found %v", found)
		}
		_, err = tn.nodes[3].Announce(ctx, topic, testKey(1), AnnounceOptions{Relays: relays[:1], Clear: true})
		tn.must("announce", err)
		if found := tn.lookup(tn.nodes[17], topic); len(found[keyOf(testKey(1))]) != 1 {
			tn.Errorf("found %v", found)
		}
		tn.must("unannounce", tn.nodes[3].Unannounce(ctx, topic, testKey(1), AnnounceOptions{}))
		if found := tn.lookup(tn.nodes[17], topic); len(found) != 1 {
			tn.Errorf("found %v", found)
		}
		time.Sleep(DefaultPeerAge)
		if found := tn.lookup(tn.nodes[17], topic); len(found) != 0 {
			tn.Errorf("found %v after its age", found)
		}
	})
}

func TestAnnounceRefusesNonsense(t *testing.T) {
	inNet(t, 1, func(tn *recordsNet) {
		n, ctx := tn.nodes[0], tn.Context()
		addr := netip.MustParseAddrPort("10.0.0.1:1")
		if _, err := n.Announce(ctx, topic, testKey(1), AnnounceOptions{Relays: []netip.AddrPort{addr, addr, addr, addr}}); !errors.Is(err, ErrTooManyRelays) {
			tn.Error(err)
		}
		if _, err := n.Announce(ctx, topic, testKey(1), AnnounceOptions{Relays: []netip.AddrPort{{}}}); !errors.Is(err, dhtrpc.ErrBadAddress) {
			tn.Error(err)
		}
		if _, err := n.Announce(ctx, topic, testKey(1), AnnounceOptions{Bump: MaxSeq + 1}); err == nil {
			tn.Error("a bump that cannot be written")
		}
		if _, err := n.Announce(ctx, topic, testKey(1), AnnounceOptions{}); !errors.Is(err, dhtrpc.ErrTooFewNodes) {
			tn.Error("alone:", err)
		}
	})
}

func TestFindPeer(t *testing.T) {
	inNet(t, 30, func(tn *recordsNet) {
		ctx := tn.Context()
		key := keyOf(testKey(1))
		_, err := tn.nodes[3].Announce(ctx, TargetOf(key), testKey(1), AnnounceOptions{})
		tn.must("announce", err)
		n := 0
		for p, err := range tn.nodes[17].FindPeer(ctx, key) {
			tn.must("find", err)
			if p.PublicKey != key {
				tn.Errorf("%+v", p)
			}
			n++
		}
		if n < dhtrpc.K-1 {
			tn.Errorf("%d nodes know the peer", n)
		}
	})
}

// A token that expires between the walk and the commit is replaced by the one
// in the refusal.
func TestCommitWithAnOldToken(t *testing.T) {
	inNet(t, 5, func(tn *recordsNet) {
		ctx := tn.Context()
		value := []byte("value")
		target := hash(value)
		m := dhtrpc.Message{Command: cmdImmutableGet, Target: (*dhtrpc.ID)(&target)}
		r, err := tn.nodes[1].rpc.Request(ctx, tn.nodes[2].rpc.PublicAddr(), m)
		tn.must("get", err)
		time.Sleep(20 * time.Second)
		node, ok := r.Contact()
		if !ok {
			tn.Fatal("no id")
		}
		m.Command, m.Value = cmdImmutablePut, value
		_, err = tn.nodes[1].commitTo(ctx, node, r.Token, always(m))
		tn.must("commit", err)
		if _, err := tn.nodes[1].commitTo(ctx, node, nil, always(m)); !errors.Is(err, dhtrpc.ErrNoToken) {
			tn.Error(err)
		}
	})
}

// A network without a persistent node cannot store.
func TestEphemeralNodesDoNotStore(t *testing.T) {
	inNet(t, 1, func(tn *recordsNet) {
		client := tn.add(nil, nil, dhtrpc.Always)
		s, err := client.ImmutablePut(tn.Context(), []byte("v"), PutOptions{})
		tn.must("put", err)
		if len(s.Nodes) != 1 {
			tn.Errorf("stored at %v", s.Nodes)
		}
		target := hash(nil)
		r, err := tn.nodes[0].rpc.Request(tn.Context(), client.rpc.LocalAddr(), dhtrpc.Message{Command: cmdImmutableGet, Target: (*dhtrpc.ID)(&target)})
		if err == nil && r.Error != dhtrpc.UnknownCommand {
			tn.Errorf("%+v", r)
		}
	})
}

func TestPlugin(t *testing.T) {
	inNet(t, 6, func(tn *recordsNet) {
		ctx := tn.Context()
		var got []string
		serve := func(r *PluginRequest) {
			got = append(got, fmt.Sprint(r.Command, string(r.Value), r.Target != nil))
			switch r.Command {
			case 1:
				r.Reply([]byte("pong"))
			case 2:
				panic("what a stranger sends must not end the process")
			}
		}
		_, err := tn.nodes[1].Register(Plugin{Name: "p", Version: 1, Serve: serve})
		tn.must("register", err)
		if _, err := tn.nodes[1].Register(Plugin{Name: "p"}); !errors.Is(err, ErrPluginTaken) {
			tn.Error(err)
		}
		client, err := tn.nodes[2].Register(Plugin{Name: "p", Version: 1})
		tn.must("register", err)
		other, err := tn.nodes[3].Register(Plugin{Name: "p", Version: 2})
		tn.must("register", err)
		to := tn.nodes[1].rpc.PublicAddr()
		r, err := client.Request(ctx, to, PluginMessage{Command: 1, Target: &topic, Value: []byte("ping")})
		tn.must("request", err)
		if string(r.Value) != "pong" || r.Token == nil {
			tn.Errorf("%+v", r)
		}
		if _, err := other.Request(ctx, to, PluginMessage{Command: 1}); !errors.Is(err, dhtrpc.ErrTimeout) {
			tn.Error("another version:", err)
		}
		pongs := 0
		for r, err := range client.Query(PluginMessage{Command: 1, Target: &topic}, dhtrpc.QueryOptions{Retries: -1}).Replies(ctx) {
			tn.must("query", err)
			if string(r.Value) == "pong" {
				pongs++
			}
		}
		tn.nodes[1].rpc.Do(func() {
			if want := []string{"1ping" + "true", "1true"}; pongs != 1 || len(got) != 2 || got[0] != "1 pingtrue" && got[0] != want[0] {
				tn.Errorf("%d pongs, served %q", pongs, got)
			}
		})
		if _, err := client.Request(ctx, to, PluginMessage{Command: 2}, dhtrpc.NoRetry()); !errors.Is(err, dhtrpc.ErrTimeout) {
			tn.Error("a plugin that panics:", err)
		}
		tn.nodes[1].Unregister(tn.nodes[1].records.plugins["p"])
		if _, err := client.Request(ctx, to, PluginMessage{Command: 1}, dhtrpc.NoRetry()); !errors.Is(err, dhtrpc.ErrTimeout) {
			tn.Error("unregistered:", err)
		}
	})
}

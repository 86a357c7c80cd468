package mainline

import (
	"context"
	"crypto/sha1"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/warren-dht/warren/vnet"
)

// testnet makes a network of n nodes on a virtual internet, one after the other,
// each knowing the first.
type testnet struct {
	t     testing.TB
	inet  *vnet.Network
	nodes []*Node
	boot  []string
}

func newTestnet(t testing.TB, n int, change ...func(i int, c *Config)) *testnet {
	tn := &testnet{t: t, inet: vnet.New(1)}
	for i := range n {
		tn.add(func(c *Config) {
			for _, f := range change {
				f(i, c)
			}
		})
	}
	return tn
}

// config is that of a node on a host of its own.
func (tn *testnet) config() Config {
	h := tn.inet.Host()
	return Config{
		Network:     h,
		Addrs:       []netip.AddrPort{netip.AddrPortFrom(h.Addr(), 6881)},
		Bootstrap:   tn.boot,
		NoBootstrap: tn.boot == nil,
		Rand:        rand.NewPCG(binary.BigEndian.Uint64(append(h.Addr().AsSlice(), 0, 0, 0, 0)), 7),
	}
}

// add starts a node on a host of its own and waits until it is ready.
func (tn *testnet) add(change func(*Config)) *Node {
	tn.t.Helper()
	cfg := tn.config()
	if change != nil {
		change(&cfg)
	}
	n, err := Listen(cfg)
	if err != nil {
		tn.t.Fatal(err)
	}
	if err := n.Ready(context.Background()); err != nil {
		tn.t.Fatal(err)
	}
	if tn.boot == nil {
		tn.boot = []string{n.Addr().String()}
	}
	tn.nodes = append(tn.nodes, n)
	return n
}

func (tn *testnet) close() {
	for _, n := range tn.nodes {
		n.Close()
	}
	tn.inet.Close()
}

func TestLookupFindsAnnounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 50)
		defer tn.close()
		ctx := context.Background()
		hash := FromHash(sha1.Sum([]byte("a torrent")))
		st, err := tn.nodes[10].Announce(ctx, hash, AnnounceOptions{Port: 1234})
		if err != nil || st.N() != K {
			t.Fatalf("announce: %+v, %v", st, err)
		}
		want := netip.AddrPortFrom(tn.nodes[10].Addr().Addr(), 1234)
		l := tn.nodes[33].Lookup(hash)
		var got []netip.AddrPort
		for p := range l.Peers(ctx) {
			got = append(got, p.Addr)
		}
		if len(got) != 1 || got[0] != want || l.Err() != nil {
			t.Errorf("lookup: %v, %v; want %v", got, l.Err(), want)
		}
		if r := l.Result(); r.Peers != 1 || r.WithPeers == 0 || r.Replied < K {
			t.Errorf("result: %+v", r)
		}
	})
}

// TestNetworkSize: lookups tell how many nodes there are.
func TestNetworkSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 300
		rnd := rand.New(rand.NewPCG(8, 8))
		tn := newTestnet(t, size, func(_ int, c *Config) {
			var sum [20]byte
			randomize(sum[:], rnd)
			c.ID = FromHash(sum)
		})
		defer tn.close()
		n := tn.nodes[100]
		for i := range 100 {
			for range n.Lookup(hashOf(string(rune(i)))).Peers(t.Context()) {
			}
		}
		if four, six := n.NetworkSize(); four < size*3/4 || four > size*4/3 || six != 0 {
			t.Errorf("%d nodes are estimated as %d, and 0 as %d", size, four, six)
		}
	})
}

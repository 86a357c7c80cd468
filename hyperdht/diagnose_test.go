package hyperdht

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/vnet"
)

func views(pairs ...string) (list []View) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, View{From: netip.MustParseAddrPort(pairs[i]), To: netip.MustParseAddrPort(pairs[i+1])})
	}
	return list
}

func TestMappingOf(t *testing.T) {
	const independent, address, port = nat.EndpointIndependentMapping, nat.AddressDependentMapping, nat.AddressAndPortDependentMapping
	for _, tt := range []struct {
		why   string
		views []View
		want  nat.Mapping
		ok    bool
	}{
		{"nobody told", nil, 0, false},
		{"one node tells nothing about others", views("1.0.0.1:1", "9.0.0.1:7"), 0, false},
		{"two agree", views("1.0.0.1:1", "9.0.0.1:7", "1.0.0.2:1", "9.0.0.1:7"), independent, true},
		{"one of four lies", views("1.0.0.1:1", "9.0.0.1:7", "1.0.0.2:1", "9.0.0.1:7", "1.0.0.3:1", "6.6.6.6:6", "1.0.0.4:1", "9.0.0.1:7"), independent, true},
		{"one of three differs", views("1.0.0.1:1", "9.0.0.1:7", "1.0.0.2:1", "9.0.0.1:7", "1.0.0.3:1", "9.0.0.1:8"), port, true},
		{"all differ", views("1.0.0.1:1", "9.0.0.1:7", "1.0.0.2:1", "9.0.0.1:8"), port, true},
		{"the same for one host", views("1.0.0.1:1", "9.0.0.1:7", "1.0.0.1:2", "9.0.0.1:7", "1.0.0.2:1", "9.0.0.1:8"), address, true},
		{"differs within a host", views("1.0.0.1:1", "9.0.0.1:7", "1.0.0.1:2", "9.0.0.1:9", "1.0.0.2:1", "9.0.0.1:8"), port, true},
	} {
		if got, ok := mappingOf(tt.views); got != tt.want || ok != tt.ok {
			t.Errorf("%s: %v, %v, want %v, %v", tt.why, got, ok, tt.want, tt.ok)
		}
	}
}

func TestFilteringOf(t *testing.T) {
	for _, tt := range []struct {
		stranger, otherPort bool
		want                nat.Filtering
	}{
		{true, false, nat.EndpointIndependentFiltering},
		{true, true, nat.EndpointIndependentFiltering},
		{false, true, nat.AddressDependentFiltering},
		{false, false, nat.AddressAndPortDependentFiltering},
	} {
		if got := filteringOf(tt.stranger, tt.otherPort); got != tt.want {
			t.Errorf("%v, %v: %v, want %v", tt.stranger, tt.otherPort, got, tt.want)
		}
	}
}

func TestSpread(t *testing.T) {
	var in, want []netip.AddrPort
	for _, s := range []string{"1.0.0.1:1", "1.0.0.1:2", "1.0.0.2:1", "1.0.0.3:1", "1.0.0.3:2"} {
		in = append(in, netip.MustParseAddrPort(s))
	}
	for _, i := range []int{0, 2, 3, 1} {
		want = append(want, in[i])
	}
	if got := spread(in, 4); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := spread(nil, 4); len(got) != 0 {
		t.Errorf("%v of nothing", got)
	}
}

// Whatever the largest size is, the search finds it, in at most four rounds.
func TestSizeSearch(t *testing.T) {
	for largest := usualMTUs[len(usualMTUs)-1]; largest <= MaxProbedMTU; largest++ {
		low, high, rounds := 0, MaxProbedMTU+1, 0
		for sizes := usualMTUs; len(sizes) > 0; sizes = sizesBetween(low, high, 16) {
			passed := make([]bool, len(sizes))
			for i, size := range sizes {
				if passed[i] = size <= largest; size <= low || size >= high {
					t.Fatalf("%d: tries %d between %d and %d", largest, size, low, high)
				}
			}
			low, high = narrow(low, high, sizes, passed)
			rounds++
		}
		if low != largest || rounds > 4 {
			t.Fatalf("found %d in %d rounds, want %d", low, rounds, largest)
		}
	}
	// A lost answer in the middle does not hide a larger one that came.
	if low, high := narrow(0, 1501, []int{1500, 1400, 1300}, []bool{false, true, false}); low != 1400 || high != 1500 {
		t.Errorf("%d, %d", low, high)
	}
}

// What a node finds out behind each kind of router is what the router does.
func TestDiagnose(t *testing.T) {
	const (
		mapEIM, mapADM, mapAPDM = nat.EndpointIndependentMapping, nat.AddressDependentMapping, nat.AddressAndPortDependentMapping
		inAll, inADF, inAPDF    = nat.EndpointIndependentFiltering, nat.AddressDependentFiltering, nat.AddressAndPortDependentFiltering
	)
	behind := func(cfg vnet.NAT) func(*vnet.Network) *vnet.Host {
		return func(n *vnet.Network) *vnet.Host { return n.NAT(cfg).Host() }
	}
	for _, tt := range []struct {
		name       string
		host       func(*vnet.Network) *vnet.Host
		mapping    nat.Mapping
		filtering  nat.Filtering
		class      nat.Class
		translated bool
		hairpin    bool
		mtu        int
	}{
		{"open", func(n *vnet.Network) *vnet.Host { return n.Host() }, mapEIM, inAll, nat.Open, false, true, 1500},
		{"firewall", func(n *vnet.Network) *vnet.Host { return n.Firewall(vnet.Firewall{Filtering: inAPDF}).Host() },
			mapEIM, inAPDF, nat.Consistent, false, true, 1500},
		{"full cone", behind(vnet.NAT{}), mapEIM, inAll, nat.Consistent, true, false, 1500},
		{"restricted cone", behind(vnet.NAT{Filtering: inADF}), mapEIM, inADF, nat.Consistent, true, false, 1500},
		{"cone", behind(vnet.Cone), mapEIM, inAPDF, nat.Consistent, true, false, 1500},
		{"cone with hairpin", behind(vnet.NAT{Filtering: inAPDF, Hairpin: true}), mapEIM, inAPDF, nat.Consistent, true, true, 1500},
		{"symmetric", behind(vnet.Symmetric), mapAPDM, inAPDF, nat.Random, true, false, 1500},
		{"carrier-grade", behind(vnet.CarrierGrade), mapEIM, inAPDF, nat.Consistent, true, true, 1500},
		{"tunnel", func(n *vnet.Network) *vnet.Host {
			r := n.NAT(vnet.Cone)
			r.SetUplink(vnet.Link{Latency: 10 * time.Millisecond, MTU: 1280})
			return r.Host()
		}, mapEIM, inAPDF, nat.Consistent, true, false, 1280},
		{"odd tunnel", func(n *vnet.Network) *vnet.Host {
			h := n.Host()
			h.SetLink(vnet.Link{Latency: 10 * time.Millisecond, MTU: 1333})
			return h
		}, mapEIM, inAll, nat.Open, false, true, 1333},
		{"bad link", func(n *vnet.Network) *vnet.Host {
			h := n.NAT(vnet.Cone).Host()
			h.SetLink(vnet.Link{Latency: 50 * time.Millisecond, Loss: 0.02})
			return h
		}, mapEIM, inAPDF, nat.Consistent, true, false, 1500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 12)
				defer w.close()
				n := w.ready(tt.host(w.net), Config{})
				defer n.Close()
				start := time.Now()
				d, err := n.Diagnose(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("took %v", took)
				}
				if d.Asked != diagnoseNodes || d.Answered < d.Asked-1 {
					t.Errorf("%d of %d nodes answered", d.Answered, d.Asked)
				}
				if m := d.Mapping; !m.Known || m.Mapping != tt.mapping || m.Translated != tt.translated || m.Class != tt.class {
					t.Errorf("mapping %+v", m)
				}
				if f := d.Filtering; !f.Known || f.Filtering != tt.filtering {
					t.Errorf("filtering %+v", f)
				}
				if !d.Hairpin.Known || d.Hairpin.Works != tt.hairpin {
					t.Errorf("hairpin %+v", d.Hairpin)
				}
				if !d.MTU.Known || d.MTU.MTU != tt.mtu {
					t.Errorf("MTU %+v", d.MTU)
				}
				if len(d.Local) != 1 {
					t.Errorf("local addresses %v", d.Local)
				}
			})
		})
	}
}

// A host that nothing passes learns that, and no more.
func TestDiagnoseBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		defer w.close()
		h := w.net.Host()
		n := w.ready(h, Config{})
		defer n.Close()
		h.SetUp(false)
		d, err := n.Diagnose(t.Context())
		if err != nil || d.Asked == 0 || d.Answered != 0 || d.Mapping.Known || d.Filtering.Known || d.Hairpin.Known || d.MTU.Known {
			t.Errorf("%+v, %v", d, err)
		}
		h.SetUp(true)
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Millisecond)
		defer cancel()
		if _, err := n.Diagnose(ctx); err == nil {
			t.Error("a diagnosis without time to make it succeeded")
		}
		if n.Close(); n.sockets.added.Load() != n.sockets.removed.Load() {
			t.Errorf("%d sockets opened, %d closed", n.sockets.added.Load(), n.sockets.removed.Load())
		}
	})
}

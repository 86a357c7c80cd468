package hyperdht

import (
	"net/netip"
	"testing"

	"github.com/warren-dht/warren/internal/vectors"
)

func TestMatchLANVectors(t *testing.T) {
	var v struct {
		LanMatch []struct {
			Mine, Theirs []string
			Match        *string
		}
	}
	vectors.Load(t, "hyperdht-connect.json", &v)
	if len(v.LanMatch) == 0 {
		t.Fatal("no vectors")
	}
	parse := func(list []string) (out []netip.AddrPort) {
		for _, s := range list {
			out = append(out, netip.AddrPortFrom(netip.MustParseAddr(s), 1))
		}
		return out
	}
	for i, c := range v.LanMatch {
		got, ok := matchLAN(parse(c.Mine), parse(c.Theirs))
		if ok != (c.Match != nil) || ok && got.Addr().String() != *c.Match {
			t.Errorf("%d: mine %v, theirs %v: got %v %v, want %v", i, c.Mine, c.Theirs, got, ok, c.Match)
		}
	}
}

func TestMayReach(t *testing.T) {
	for _, c := range []struct {
		why, from, to string
		want          bool
	}{
		{"public to public", "60.0.0.1:1", "61.0.0.1:2", true},
		{"a public stranger has no business on our LAN", "60.0.0.1:1", "192.168.1.1:53", false},
		{"nor on this host", "60.0.0.1:1", "127.0.0.1:22", false},
		{"neighbours reach neighbours", "192.168.1.2:1", "192.168.1.3:2", true},
		{"a test network on loopback", "127.0.0.1:1", "127.0.0.1:2", true},
		{"no port", "60.0.0.1:1", "61.0.0.1:0", false},
		{"multicast", "127.0.0.1:1", "224.0.0.1:5353", false},
		{"broadcast", "127.0.0.1:1", "255.255.255.255:9", false},
		{"this network", "127.0.0.1:1", "0.0.0.0:9", false},
		{"IPv6 is not spoken", "127.0.0.1:1", "[::1]:9", false},
	} {
		if got := mayReach(netip.MustParseAddrPort(c.from), netip.MustParseAddrPort(c.to)); got != c.want {
			t.Errorf("%s: %s to %s: %v", c.why, c.from, c.to, got)
		}
	}
}

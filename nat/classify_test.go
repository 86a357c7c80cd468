package nat

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/warren-dht/warren/internal/vectors"
)

func TestClassifierVectors(t *testing.T) {
	var v struct {
		NatClassification []struct {
			Note       string
			Firewalled bool
			Steps      []struct {
				SeenAs, From string
				Sampled      int
				Firewall     Class
				Addresses    []string
			}
		}
	}
	vectors.Load(t, "hyperdht-connect.json", &v)
	if len(v.NatClassification) == 0 {
		t.Fatal("no vectors")
	}
	for _, c := range v.NatClassification {
		cl := NewClassifier(c.Firewalled)
		for i, s := range c.Steps {
			cl.Add(netip.MustParseAddrPort(s.SeenAs), netip.MustParseAddrPort(s.From))
			var want []string
			for _, a := range s.Addresses {
				a, _, _ = strings.Cut(a, " ")
				want = append(want, a)
			}
			var got []string
			for _, a := range cl.Addrs() {
				got = append(got, a.String())
			}
			if cl.Class() != s.Firewall || cl.Len() != s.Sampled || !slices.Equal(got, want) {
				t.Errorf("%s, step %d: %v after %d samples at %v, want %v, %d, %v",
					c.Note, i, cl.Class(), cl.Len(), got, s.Firewall, s.Sampled, want)
			}
		}
	}
}

func TestClassifierFreezes(t *testing.T) {
	cl := NewClassifier(true)
	at := func(p uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("60.0.0.1"), p) }
	for i := range 3 {
		cl.Add(at(7), at(uint16(i+1)))
	}
	cl.Freeze()
	for i := range 1000 {
		cl.Add(at(uint16(i+100)), at(uint16(i+10)))
	}
	if cl.Class() != Consistent || len(cl.Addrs()) != 1 || cl.Len() > maxClassifierSamples {
		t.Errorf("%v at %v after %d samples", cl.Class(), cl.Addrs(), cl.Len())
	}
}

package nat

import (
	"net/netip"
	"testing"

	"github.com/warren-dht/warren/internal/vectors"
)

// docs/spec/dht-rpc.md §6.7, vectors nat_sampler.
func TestSamplerVectors(t *testing.T) {
	type addr struct {
		Host *string
		Port uint16
	}
	var f struct {
		Samplers []struct {
			Name  string
			Steps []struct {
				Add             addr
				Host            *string
				Port            uint16
				Size, Threshold int
			}
		} `json:"nat_sampler"`
	}
	vectors.Load(t, "dht-rpc.json", &f)
	if len(f.Samplers) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range f.Samplers {
		var s Sampler
		for i, step := range v.Steps {
			s.Add(netip.AddrPortFrom(netip.MustParseAddr(*step.Add.Host), step.Add.Port))
			host, port := s.Addr()
			want := netip.Addr{}
			if step.Host != nil {
				want = netip.MustParseAddr(*step.Host)
			}
			if host != want || port != step.Port || s.Len() != step.Size || s.threshold() != step.Threshold {
				t.Errorf("%s, step %d: %v:%d size %d threshold %d, want %v:%d %d %d", v.Name, i,
					host, port, s.Len(), s.threshold(), want, step.Port, step.Size, step.Threshold)
			}
			if _, ok := s.AddrPort(); ok != (want.IsValid() && step.Port != 0) || s.Randomized() != (want.IsValid() && step.Port == 0) {
				t.Errorf("%s, step %d: AddrPort %v, Randomized %v", v.Name, i, ok, s.Randomized())
			}
		}
	}
}

func TestSamplerZeroValue(t *testing.T) {
	var s Sampler
	if host, port := s.Addr(); host.IsValid() || port != 0 || s.Randomized() || s.Len() != 0 {
		t.Errorf("an empty sampler believes %v:%d", host, port)
	}
}

// However long and varied the hearsay, a Sampler keeps sixteen samples.
func TestSamplerIsBounded(t *testing.T) {
	var s Sampler
	ip := netip.MustParseAddr("1.0.0.0")
	for i := range 1000 {
		ip = ip.Next()
		s.Add(netip.AddrPortFrom(ip, uint16(i)))
	}
	if s.Len() != samplerSize || len(s.ring) != 2*samplerSize {
		t.Errorf("%d samples in a ring of %d", s.Len(), len(s.ring))
	}
	if host, _ := s.Addr(); host.IsValid() {
		t.Errorf("believes %v though all samples differ", host)
	}
}

package udp_test

import (
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udp/udptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var machines = []struct {
	name string
	udp.Machine
}{
	{"Offload", udp.Machine{}},
	{"NoOffload", udp.Machine{NoOffload: true}},
	{"Plain", udp.Machine{Plain: true}},
}

func TestConformance(t *testing.T) {
	for _, m := range machines {
		for _, addr := range []string{"127.0.0.1", "::1"} {
			t.Run(m.name+"/"+addr, func(t *testing.T) {
				p := udptest.Place{Network: m.Machine, Addr: netip.MustParseAddr(addr)}
				udptest.Run(t, p, p)
			})
		}
	}
	// One's trains arrive at the other's single reads, and the other way round.
	for _, m := range machines[1:] {
		t.Run("Offload_"+m.name, func(t *testing.T) {
			a := udptest.Place{Network: udp.Default, Addr: netip.MustParseAddr("127.0.0.1")}
			b := udptest.Place{Network: m.Machine, Addr: a.Addr}
			udptest.Run(t, a, b)
			udptest.Run(t, b, a)
		})
	}
}

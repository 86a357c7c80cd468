package hyperdht

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/warren-dht/warren/dhtrpc"
)

// An announcement goes to the nearest node of each public network first. Addresses
// that are not public keep their order.
func TestAnnouncementsGoToDifferentNetworks(t *testing.T) {
	var in []dhtrpc.Reply
	for _, a := range []string{"8.0.0.1:1", "8.0.0.1:2", "8.0.0.9:3", "9.0.0.1:1", "10.0.0.1:1", "10.0.0.1:2", "9.0.0.2:1", "20.0.0.1:1"} {
		in = append(in, dhtrpc.Reply{From: netip.MustParseAddrPort(a)})
	}
	var got []string
	for _, r := range diverse(in) {
		got = append(got, r.From.String())
	}
	want := []string{"8.0.0.1:1", "9.0.0.1:1", "10.0.0.1:1", "10.0.0.1:2", "20.0.0.1:1", "8.0.0.1:2", "8.0.0.9:3", "9.0.0.2:1"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

package main

import (
	"testing"

	"github.com/warren-dht/warren/hyperdht"
)

// Which relays a client may name follows from --allow-relay, and without it from
// whether the client is listed.
func TestAllowRelay(t *testing.T) {
	alice, relay, other := hyperdht.GenerateKeyPair().Public, hyperdht.GenerateKeyPair().Public, hyperdht.GenerateKeyPair().Public
	for _, c := range []struct {
		name         string
		list, allow  []string
		relay, other bool
	}{
		{"by default", nil, nil, false, false},
		{"anybody may connect", nil, []string{"any"}, false, false},
		{"clients are listed", nil, []string{alice.String()}, true, true},
		{"a relay is listed", []string{relay.String()}, []string{alice.String()}, true, false},
		{"any relay", []string{"any"}, nil, true, true},
	} {
		may, err := (&allowFlags{list: c.allow}).policy(new(app))
		if err != nil {
			t.Fatal(err)
		}
		f, err := allowRelay(c.list, may)
		if err != nil {
			t.Fatal(err)
		}
		for through, want := range map[hyperdht.PublicKey]bool{relay: c.relay, other: c.other} {
			in := hyperdht.Incoming{RemotePublicKey: alice, RelayThrough: through}
			if got := f != nil && f(in); got != want {
				t.Errorf("%s: %v is allowed: %v, want %v", c.name, through, got, want)
			}
		}
	}
	if _, err := allowRelay([]string{"xyz"}, nil); err == nil {
		t.Error("xyz is a relay")
	}
}

package main

import (
	"slices"

	"github.com/warren-dht/warren/hyperdht"
)

// allowRelay reads --allow-relay: which blind relays clients may make a listener
// connect to. Without the flag those that clients name who are listed by key in
// may; nobody else.
func allowRelay(list []string, may *policy) (func(hyperdht.Incoming) bool, error) {
	if len(list) == 0 {
		if may == nil || may.any {
			return nil, nil
		}
		return func(hyperdht.Incoming) bool { return true }, nil // Allow was asked before
	}
	any := slices.Contains(list, "any")
	keys, err := parsePeers("--allow-relay", slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "any" }))
	if err != nil {
		return nil, err
	}
	return func(in hyperdht.Incoming) bool { return any || slices.Contains(keys, in.RelayThrough) }, nil
}

package attacks

import (
	"fmt"
	"testing"
	"time"
)

// Nodes that enter the routing tables and fall silent slow down look-ups for
// seconds, not for minutes.
func TestNodesFallSilent(t *testing.T) {
	need(t)
	const (
		ports = 200
		// The goal is 50 ms; a busy machine may take longer without any attack.
		// A look-up that waits for one silent node takes a second.
		quick = 500 * time.Millisecond
		limit = 30 * time.Second
	)
	w := newNetwork(t, 40, nil)
	client := w.join("6.0.0.1", nil)
	before := find(t, client, 10)
	s := newSybils(t, ports)
	s.enter(w, 2)
	find(t, client, 10) // its table knows them, too
	in, all := s.inTables(w)
	s.silent.Store(true)
	begun := time.Now()
	// A client that was there before, and one that joins later.
	var after, fresh lookups
	recovered := time.Duration(-1)
	for round := 0; time.Since(begun) < limit+5*time.Second; round++ {
		if after = find(t, client, 5); median(after.took) < quick {
			late, err := w.tryJoin(fmt.Sprintf("6.7.%d.1", round), nil)
			if err != nil {
				t.Fatal(err)
			}
			fresh = find(t, late, 5)
			late.Close()
			if median(fresh.took) < quick {
				recovered = time.Since(begun)
				break
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
	left, _ := s.inTables(w)
	result(t, recovered >= 0 && recovered <= limit, "200 nodes fall silent: look-ups", "quick within 30 s",
		"after %v p50 %v, of a fresh client %v (%v undisturbed); %d of %d entries were silent, %d are left",
		time.Since(begun).Round(100*time.Millisecond), median(after.took), median(fresh.took), median(before.took), in, all, left)
}

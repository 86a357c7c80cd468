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
		// The goals are 50 ms and 30 s. A busy machine needs more without any attack,
		// and when the tables are checked is a matter of chance. A look-up that waits
		// for one silent node takes a second.
		quick     = 500 * time.Millisecond
		limit     = 45 * time.Second
		lateLimit = 60 * time.Second
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
	var after, fresh lookups
	var recovered, freshRecovered time.Duration
	for round := 0; freshRecovered == 0 && time.Since(begun) < lateLimit; round++ {
		if after = find(t, client, 5); median(after.took) > quick {
			recovered = 0
			if time.Since(begun) > limit {
				break
			}
			continue
		}
		if recovered == 0 {
			recovered = time.Since(begun)
		}
		late, err := w.tryJoin(fmt.Sprintf("6.7.%d.1", round), nil)
		if err != nil {
			t.Fatal(err)
		}
		fresh = find(t, late, 5)
		late.Close()
		if median(fresh.took) < quick {
			freshRecovered = time.Since(begun)
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	left, _ := s.inTables(w)
	const what = "200 nodes fall silent: look-ups"
	result(t, recovered > 0 && recovered <= limit, what, "quick within 45 s",
		"p50 %v (%v undisturbed) after %v (0s: never); %d of %d entries were silent, %d are left",
		median(after.took), median(before.took), recovered.Round(100*time.Millisecond), in, all, left)
	result(t, freshRecovered > 0, what+" of a client that joins later", "quick within 60 s",
		"p50 %v after %v (0s: never)", median(fresh.took), freshRecovered.Round(100*time.Millisecond))
}

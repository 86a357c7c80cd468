package attacks

import (
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
	var after lookups
	recovered := time.Duration(-1)
	for time.Since(begun) < limit+10*time.Second {
		after = find(t, client, 5)
		if median(after.took) < quick {
			recovered = time.Since(begun)
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	left, _ := s.inTables(w)
	const what = "200 nodes fall silent"
	if recovered < 0 {
		result(t, false, what+": look-ups", "quick again within 30 s", "p50 still %v after %v (%v undisturbed); %d of %d entries were silent, %d are left",
			median(after.took), time.Since(begun).Round(time.Second), median(before.took), in, all, left)
		return
	}
	after = find(t, client, 10)
	result(t, recovered <= limit && median(after.took) < quick, what+": look-ups", "quick again within 30 s",
		"p50 below %v after %v, then %v (%v undisturbed); %d of %d entries were silent, %d are left",
		quick, recovered.Round(100*time.Millisecond), median(after.took), median(before.took), in, all, left)
	fresh := find(t, w.join("6.7.0.1", nil), 10)
	result(t, median(fresh.took) < quick, what+": look-ups of a fresh client", "quick", "p50 %v", median(fresh.took))
}

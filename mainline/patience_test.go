package mainline

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A delay is how long actors take to answer, from now on.
type delay struct{ atomic.Int64 }

func (d *delay) set(x time.Duration) { d.Store(int64(x)) }

// after answers every query to come with an id, each after a delay and a bit.
func (a *actor) after(c byte, d *delay, bit time.Duration) {
	go func() {
		for x := range a.got {
			var m message
			if m.parse(x.Payload) == nil && m.kind == 'q' {
				t := string(m.t)
				time.AfterFunc(time.Duration(d.Load())+bit, func() { a.send([]byte("d1:rd" + idOf(c) + "e1:t2:" + t + "1:y1:re")) })
			}
		}
	}()
	a.s.Cleanup(func() { close(a.got) })
}

// took walks to a target and says how long that took and how many answered.
func (s *stage) took() (time.Duration, int) {
	s.Helper()
	start := time.Now()
	list, err := s.node.Closest(s.Context(), hashOf("x"))
	if err != nil {
		s.Error(err)
	}
	return time.Since(start), len(list)
}

// TestDeadNodesDoNotHoldUp: in a network of a few nodes a walk does not wait
// giveUp for each that is gone, neither the first time nor, much less, again.
func TestDeadNodesDoNotHoldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tn := newTestnet(t, 8)
		defer func() { tn.close() }()
		time.Sleep(time.Minute)
		for _, n := range tn.nodes[5:] {
			n.Close()
		}
		tn.nodes = tn.nodes[:5]
		start := time.Now()
		n := tn.add(nil)
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("bootstrapping took %v", d)
		}
		for _, x := range []struct {
			n    *Node
			most time.Duration
		}{{tn.nodes[2], 1100 * time.Millisecond}, {tn.nodes[2], 300 * time.Millisecond}, {n, 300 * time.Millisecond}} {
			start := time.Now()
			list, err := x.n.Closest(t.Context(), hashOf("x"))
			if d := time.Since(start); d > x.most || len(list) != 5 || err != nil {
				t.Errorf("a walk took %v, more than %v, and met %v, %v", d, x.most, list, err)
			}
		}
	})
}

// TestLateAnswersCount: who answers within the walk's patience counts, and one
// that had been silent is waited for again after its first answer.
func TestLateAnswersCount(t *testing.T) {
	play(t, func(c *Config) { c.SendRate = -1 }, func(s *stage) {
		fast, slow := s.actor(), s.actor()
		fast.enter('A')
		slow.enter('B')
		const soon = 900 * time.Millisecond // soon enough, if one waits
		var quick, slowly delay
		slowly.set(soon)
		fast.after('A', &quick, 0)
		slow.after('B', &slowly, 0)
		for range 20 {
			s.node.Ping(s.Context(), fast.addr)
		}
		if d, n := s.took(); n != 2 || d < soon || d > soon+100*time.Millisecond {
			t.Errorf("a walk of %v met %d nodes", d, n)
		}
		for range 40 {
			s.node.Ping(s.Context(), fast.addr)
		}
		slowly.set(giveUp - 100*time.Millisecond)
		if d, n := s.took(); n != 1 || d > 1100*time.Millisecond {
			t.Errorf("without the slow one: a walk of %v met %d nodes", d, n)
		}
		slowly.set(soon)
		time.Sleep(giveUp) // meanwhile its late answer has come
		for range 40 {
			s.node.Ping(s.Context(), fast.addr)
		}
		if d, n := s.took(); n != 2 {
			t.Errorf("after its answer: a walk of %v met %d nodes", d, n)
		}
	})
}

// TestRoundTripsOfLateAnswers: late answers are counted among the round trips,
// so that what is late follows a network that has become slower.
func TestRoundTripsOfLateAnswers(t *testing.T) {
	play(t, func(c *Config) { c.SendRate = -1 }, func(s *stage) {
		a := s.actor()
		a.enter('A')
		var d delay
		a.after('A', &d, 0)
		for range 20 {
			s.took()
		}
		patience := func() time.Duration {
			s.node.mu.Lock()
			defer s.node.mu.Unlock()
			return s.node.sockets[0].rtt.patience()
		}
		if d := patience(); d != 4*slowLeast {
			t.Errorf("patience with a fast node: %v", d)
		}
		const slower = 700 * time.Millisecond
		d.set(slower)
		for range 5 {
			s.took()
		}
		if d := patience(); d < 2*slower {
			t.Errorf("patience with a slow node: %v", d)
		}
	})
}

// TestBackFromAnotherNetwork: who was cut off for a while, and comes back with
// longer round trips, misses nobody.
func TestBackFromAnotherNetwork(t *testing.T) {
	play(t, nil, func(s *stage) {
		var d delay
		for i := range 6 {
			a := s.actor()
			a.enter(byte('A' + i))
			a.after(byte('A'+i), &d, time.Duration(i)*10*time.Millisecond)
		}
		for range 5 {
			if _, n := s.took(); n != 6 {
				t.Fatalf("%d nodes", n)
			}
			time.Sleep(10 * time.Second)
		}
		d.set(time.Hour)
		if d, n := s.took(); n != 0 || d < giveUp {
			t.Errorf("cut off: a walk of %v met %d nodes", d, n)
		}
		d.set(700 * time.Millisecond)
		if d, n := s.took(); n != 6 {
			t.Errorf("back again: a walk of %v met %d nodes", d, n)
		}
	})
}

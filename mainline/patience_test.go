package mainline

import (
	"testing"
	"testing/synctest"
	"time"
)

// after answers every query to come with an id, each after a delay of its own;
// the delay is forgotten after the last one.
func (a *actor) after(c byte, delay func() time.Duration) {
	go func() {
		for d := range a.got {
			var m message
			if m.parse(d.Payload) == nil && m.kind == 'q' {
				t := string(m.t)
				time.AfterFunc(delay(), func() { a.send([]byte("d1:rd" + idOf(c) + "e1:t2:" + t + "1:y1:re")) })
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
		delay := 900 * time.Millisecond
		fast.after('A', func() time.Duration { return 0 })
		slow.after('B', func() time.Duration { return delay })
		for range 20 {
			s.node.Ping(s.Context(), fast.addr)
		}
		if d, n := s.took(); n != 2 || d < delay || d > delay+100*time.Millisecond {
			t.Errorf("a walk of %v met %d nodes", d, n)
		}
		for range 40 {
			s.node.Ping(s.Context(), fast.addr)
		}
		delay = giveUp - 100*time.Millisecond
		if d, n := s.took(); n != 1 || d > 1100*time.Millisecond {
			t.Errorf("without the slow one: a walk of %v met %d nodes", d, n)
		}
		delay = 900 * time.Millisecond // soon enough, if one waits
		time.Sleep(giveUp)             // meanwhile its late answer has come
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
		delay := time.Duration(0)
		a.after('A', func() time.Duration { return delay })
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
		delay = 700 * time.Millisecond
		for range 5 {
			s.took()
		}
		if d := patience(); d < 2*delay {
			t.Errorf("patience with a slow node: %v", d)
		}
	})
}

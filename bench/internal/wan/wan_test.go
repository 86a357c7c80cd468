package wan

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// A packet of 1,000 bytes takes a millisecond; two more fit behind it.
		l := New(Config{Rate: 8e6, Delay: 10 * time.Millisecond, Queue: 2000, Extra: 28}, 1)
		start := time.Now()
		var arrived []time.Duration
		go l.Run(func(b []byte) {
			if len(b) != 972 {
				t.Errorf("%d bytes arrived", len(b))
			}
			arrived = append(arrived, time.Since(start))
		})
		for range 10 {
			l.Put(make([]byte, 972))
		}
		time.Sleep(time.Second)
		close(l.flying)
		synctest.Wait()
		want := []time.Duration{11 * time.Millisecond, 12 * time.Millisecond, 13 * time.Millisecond}
		if len(arrived) != len(want) || l.Dropped() != 7 {
			t.Fatalf("arrived at %v, %d dropped", arrived, l.Dropped())
		}
		for i := range want {
			if arrived[i] != want[i] {
				t.Errorf("packet %d arrived after %v, want %v", i, arrived[i], want[i])
			}
		}
	})
}

func TestLoss(t *testing.T) {
	l := New(Config{Rate: 1e12, Queue: 1e12, Loss: 0.1}, 2)
	for range 10000 {
		l.Put(make([]byte, 100))
	}
	if n := l.Dropped(); n < 900 || n > 1100 {
		t.Errorf("%d of 10,000 were lost, want a tenth", n)
	}
}

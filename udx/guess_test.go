package udx

import (
	"testing"
	"time"
)

// A guess of the round-trip time shortens the first timeout, until there is a
// sample.
func TestGuessedRTT(t *testing.T) {
	for _, c := range []struct{ guess, want time.Duration }{
		{0, initialRTO},
		{time.Millisecond, minRTO},
		{200 * time.Millisecond, 600 * time.Millisecond},
		{time.Minute, initialRTO},
	} {
		r := rttEstimator{guess: c.guess}
		if got := r.timeout(); got != c.want {
			t.Errorf("a guess of %v makes %v, want %v", c.guess, got, c.want)
		}
		r.sample(2 * time.Second)
		if got := r.timeout(); got != 6*time.Second {
			t.Errorf("after a sample the timeout is %v", got)
		}
	}
}

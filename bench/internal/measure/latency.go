package measure

import (
	"slices"
	"time"
)

// Latencies sums up a set of latencies, in microseconds.
type Latencies struct {
	N    int     `json:"n"`
	Mean float64 `json:"mean_us"`
	P50  float64 `json:"p50_us"`
	P90  float64 `json:"p90_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p999_us"`
	Max  float64 `json:"max_us"`
}

// Summarize sorts the samples, which are nanoseconds, and sums them up.
func Summarize(ns []int64) Latencies {
	if len(ns) == 0 {
		return Latencies{}
	}
	slices.Sort(ns)
	var sum float64
	for _, v := range ns {
		sum += float64(v)
	}
	at := func(q float64) float64 {
		i := min(int(q*float64(len(ns))), len(ns)-1)
		return float64(ns[i]) / 1e3
	}
	return Latencies{
		N:    len(ns),
		Mean: sum / float64(len(ns)) / 1e3,
		P50:  at(.5), P90: at(.9), P99: at(.99), P999: at(.999),
		Max: float64(ns[len(ns)-1]) / 1e3,
	}
}

var start = time.Now()

// Now is a monotonic clock in nanoseconds.
func Now() int64 { return int64(time.Since(start)) }

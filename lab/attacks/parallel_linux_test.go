package attacks

import (
	"runtime"
	"sync"
)

// parallel calls f with 0 to n-1, on all processors.
func parallel(n int, f func(i int)) { parallelBy(runtime.GOMAXPROCS(0), n, f) }

// parallelBy is parallel with a number of goroutines.
func parallelBy(workers, n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range workers {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

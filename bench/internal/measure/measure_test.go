package measure

import (
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
)

func TestSummarize(t *testing.T) {
	ns := make([]int64, 1000)
	for i := range ns {
		ns[len(ns)-1-i] = int64(i+1) * 1000
	}
	got := Summarize(ns)
	want := Latencies{N: 1000, Mean: 500.5, P50: 501, P90: 901, P99: 991, P999: 1000, Max: 1000}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := Summarize(nil); got != (Latencies{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestPids(t *testing.T) {
	if got := Pids("12,x,,-3,4"); !slices.Equal(got, []int{12, 4}) {
		t.Errorf("got %v", got)
	}
}

func TestPool(t *testing.T) {
	var mu sync.Mutex
	seen := make(map[int]int)
	running, most := 0, 0
	Pool(100, 4, func(i int) {
		mu.Lock()
		seen[i]++
		running++
		most = max(most, running)
		mu.Unlock()
		runtime.Gosched()
		mu.Lock()
		running--
		mu.Unlock()
	})
	if len(seen) != 100 || most > 4 {
		t.Errorf("%d of 100 ran, %d at once", len(seen), most)
	}
}

func TestProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it reads /proc")
	}
	self := os.Getpid()
	for SchedCPU(self) < 0.03 { // two ticks and a bit of work
		Summarize(make([]int64, 1000))
	}
	if CPU(self) == 0 || RSS(self) < 1<<20 || CPUs([]int{self, -1}) == 0 {
		t.Errorf("CPU %v s, %d bytes", CPU(self), RSS(self))
	}
	if CPU(-1) != 0 || RSS(-1) != 0 || SchedCPU(-1) != 0 {
		t.Error("a process that does not exist uses something")
	}
}

// Package measure holds what every benchmark program shares: CPU time and
// memory of processes by their ids (from /proc, so on Linux only; elsewhere they
// read as 0), latencies summed up, and the loop of a role (see README.md).
package measure

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// ticks is the kernel's USER_HZ, the unit of /proc/PID/stat.
const ticks = 100

// CPU is the user and system time of a process so far, all threads, in seconds.
func CPU(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name stands in parentheses and may hold anything; after it come the
	// fields from the third on. utime and stime are fields 14 and 15.
	stat := string(b)
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / ticks
}

// CPUs sums CPU over processes.
func CPUs(pids []int) float64 {
	var sum float64
	for _, pid := range pids {
		sum += CPU(pid)
	}
	return sum
}

// SchedCPU is the CPU time of a process's living threads in seconds from the
// scheduler's nanosecond counters, for amounts too small for [CPU].
func SchedCPU(pid int) float64 {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum float64
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		if f := strings.Fields(string(b)); len(f) > 0 {
			ns, _ := strconv.ParseFloat(f[0], 64)
			sum += ns / 1e9
		}
	}
	return sum
}

// RSS is the resident memory of a process in bytes.
func RSS(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// GC collects and gives memory back, so that [RSS] means live memory.
func GC() {
	runtime.GC()
	runtime.GC()
	debug.FreeOSMemory()
}

// Pids parses "1,2,3"; what is no process id is left out.
func Pids(s string) []int {
	var pids []int
	for f := range strings.SplitSeq(s, ",") {
		if n, err := strconv.Atoi(f); err == nil && n > 0 {
			pids = append(pids, n)
		}
	}
	return pids
}

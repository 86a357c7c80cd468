package measure

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

var output sync.Mutex

// Out prints one line of JSON.
func Out(v any) {
	b, err := json.Marshal(v)
	Check(err)
	output.Lock()
	defer output.Unlock()
	os.Stdout.Write(append(b, '\n'))
}

// Fatal prints to standard error and ends the program with status 1.
func Fatal(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

// Check ends the program on an error. A benchmark has no better answer to one.
func Check(err error) {
	if err != nil {
		Fatal("%v", err)
	}
}

// Serve is the loop of a server role: it prints the ready line and then answers
// lines of standard input until "quit" or the end of input, which end the
// program. "gc" collects and prints {"gc":true,"rss":bytes}.
func Serve(ready map[string]any) {
	ready["ready"] = true
	ready["pid"] = os.Getpid()
	Out(ready)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		switch strings.TrimSpace(lines.Text()) {
		case "gc":
			GC()
			Out(map[string]any{"gc": true, "rss": RSS(os.Getpid())})
		case "quit":
			os.Exit(0)
		}
	}
	os.Exit(0)
}

// Pool runs f(0) to f(n-1), at most c at once, and returns when all have.
func Pool(n, c int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(c, n) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	wg.Wait()
}

//go:build unix

package secretstream

import (
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"
)

// Bulk over TCP; cpu-s/GB counts both ends and the kernel.
func BenchmarkBulk(b *testing.B) {
	for _, plain := range []bool{true, false} {
		for _, n := range []int{8 << 10, 64 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("plain=%v/%d", plain, n), func(b *testing.B) {
				w, r := tcp(b)
				if !plain {
					c, s := shaken(b, w, r, Config{}, Config{})
					w, r = c, s
				}
				before := cpu()
				b.SetBytes(int64(n))
				go func() {
					p := make([]byte, n)
					for {
						if _, err := w.Write(p); err != nil {
							return
						}
					}
				}()
				p := make([]byte, n)
				total := 0
				for b.Loop() {
					if _, err := io.ReadFull(r, p); err != nil {
						b.Fatal(err)
					}
					total += n
				}
				b.ReportMetric((cpu()-before).Seconds()/float64(total)*1e9, "cpu-s/GB")
				w.Close()
			})
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

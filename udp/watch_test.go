package udp

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatchPolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var up atomic.Bool
		c := watchPolling(ctx, func() []string {
			if up.Load() {
				return []string{"eth0", "lo"}
			}
			return []string{"lo"}
		})
		time.Sleep(time.Minute)
		select {
		case <-c:
			t.Error("nothing changed")
		default:
		}
		up.Store(true)
		start := time.Now()
		<-c
		if d := time.Since(start); d > pollInterval {
			t.Errorf("it took %v", d)
		}
		cancel()
		if _, ok := <-c; ok {
			t.Error("open after the context's end")
		}
	})
}

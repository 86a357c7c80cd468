package udp

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatchPolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		list := []string{"lo"}
		c := watchPolling(ctx, func() []string { return list })
		time.Sleep(time.Minute)
		select {
		case <-c:
			t.Error("nothing changed")
		default:
		}
		list = []string{"eth0", "lo"}
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
